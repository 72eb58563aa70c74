"""Conversion of the contract's envelopes to values of the transport."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from restante.errors import InvalidArgument
from restante.v1.submission_pb2 import EnvelopeOptions, EnvelopeRecipient, NotifyCondition
from restante_mail.envelope import parameters
from restante_server.directory import addresses
from restante_server.transport.records import Envelope, Recipient

MAX_TRACE_FIELD_OCTETS = 2 << 10
NOTIFY_CONDITIONS = frozenset(NotifyCondition.values()) - {NotifyCondition.NOTIFY_CONDITION_UNSPECIFIED}


def envelope_of(path: str, recipients: Iterable[EnvelopeRecipient], options: EnvelopeOptions) -> Envelope:
    """The transport's envelope; path "" is the null reverse-path. Raises InvalidAddress, InvalidArgument."""
    return Envelope(
        str(addresses.parse(path)) if path else "",
        [
            Recipient(one.forward_path, _conditions(one.notify), _original_recipient(one.original_recipient))
            for one in recipients
        ],
        options.dsn_return,
        _envelope_id(options.envelope_id),
        options.smtputf8,
        options.body_8bit,
    )


def _conditions(given: Sequence[int]) -> int:
    if not given:
        return 0
    named = set(given)
    if NotifyCondition.NOTIFY_CONDITION_NEVER in named:
        named = {NotifyCondition.NOTIFY_CONDITION_NEVER}
    return sum(1 << condition for condition in named if condition in NOTIFY_CONDITIONS)


def _envelope_id(value: str) -> str:
    if value and not parameters.is_envelope_id(value):
        problem = f"must be xtext of at most {parameters.MAX_ENVELOPE_ID_CHARACTERS} characters (RFC 3461 4.4)"
        raise InvalidArgument(field="envelope_id", problem=problem)
    return value


def _original_recipient(value: str) -> str:
    if value and not parameters.is_original_recipient(value):
        most = parameters.MAX_ORIGINAL_RECIPIENT_CHARACTERS
        problem = f"must be an address type, a semicolon and xtext, at most {most} characters (RFC 3461 4.2)"
        raise InvalidArgument(field="original_recipient", problem=problem)
    return value


def require_trace_field(trace_field: str) -> None:
    """Raises InvalidArgument unless the text is one Received field, folded or not, with its CRLF."""
    lines = trace_field.split("\r\n")
    right = (
        len(trace_field) <= MAX_TRACE_FIELD_OCTETS
        and trace_field.isascii()
        and lines[-1] == ""
        and lines[0].startswith("Received:")
        and all(line[:1] in (" ", "\t") and line.strip() for line in lines[1:-1])
        and not any(character in line for line in lines for character in "\r\n\0")
    )
    if not right:
        raise InvalidArgument(
            field="trace_field",
            problem=f"must be one Received field with CRLF, at most {MAX_TRACE_FIELD_OCTETS} octets of ASCII",
        )
