"""The states of a recipient and the responsibility in each. *Pure.*

    SCHEDULED --its time comes--> PENDING --lease--> LEASED --outcome--> RELAYED | FAILED | PENDING (later)
    PENDING (local) --delivery--> DELIVERED | FAILED          LEASED --lease lapses--> PENDING
    PENDING | SCHEDULED --owner or administrator--> DISCARDED  (an alias) --> EXPANDED

Until a final state the core is responsible; a lease only lends the work out. Numbers are those of the contract's
RecipientState, NotifyCondition and DsnReturn.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """Where a recipient stands."""

    SCHEDULED = 1
    PENDING = 2
    LEASED = 3
    DELIVERED = 4
    RELAYED = 5
    EXPANDED = 6
    DISCARDED = 7
    FAILED = 8


FINAL = frozenset({State.DELIVERED, State.RELAYED, State.EXPANDED, State.DISCARDED, State.FAILED})
WAITING = frozenset({State.SCHEDULED, State.PENDING, State.LEASED})


class Notify(IntEnum):
    """When the sender wants a report (RFC 3461 4.1). A set of them is the sum of 1 << value; 0 is "not given"."""

    NEVER = 1
    SUCCESS = 2
    FAILURE = 3
    DELAY = 4


class Return(IntEnum):
    """How much of the message a report returns (RFC 3461 4.3)."""

    UNSPECIFIED = 0
    FULL = 1
    HEADERS = 2


def wants(notify: int, condition: Notify) -> bool:
    """Whether a report is wanted. Without NOTIFY: on failure and delay (RFC 3461 5.2.1)."""
    if not notify:
        return condition in (Notify.FAILURE, Notify.DELAY)
    return bool(notify & 1 << condition)
