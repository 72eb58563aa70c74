"""The reason of an outcome, in words for people."""

from __future__ import annotations

from restante.v1.outcomes_pb2 import OutcomeReason


def reason(value: OutcomeReason.ValueType) -> str:
    """The words; empty without a failure or deferral."""
    return OutcomeReason.Name(value).removeprefix("OUTCOME_REASON_").lower().replace("_", " ") if value else ""
