"""The commands of one transaction, and the checks before it. *Pure.*

DSN parameters are passed on exactly as received (RFC 3461 5.2). Paths with an ambiguous syntax are never sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from restante.v1.submission_pb2 import DsnReturn, EnvelopeOptions, EnvelopeRecipient, NotifyCondition
from restante_gateways.relay.outcomes import Outcome, failed
from restante_mail.envelope import parameters
from restante_mail.envelope.paths import BadPath, parse_path
from restante_mail.header.fields import header_end
from restante_mail.mime.seven_bit import has_long_line

CHUNK_OCTETS = 64 << 10
DATA = (b"DATA",)
CONDITIONS = {
    NotifyCondition.NOTIFY_CONDITION_NEVER: "NEVER",
    NotifyCondition.NOTIFY_CONDITION_SUCCESS: "SUCCESS",
    NotifyCondition.NOTIFY_CONDITION_FAILURE: "FAILURE",
    NotifyCondition.NOTIFY_CONDITION_DELAY: "DELAY",
}
RETURNS = {DsnReturn.DSN_RETURN_FULL: "RET=FULL", DsnReturn.DSN_RETURN_HEADERS: "RET=HDRS"}


@dataclass(frozen=True, slots=True)
class Offer:
    """The extensions that the other server offers in its reply to EHLO."""

    dsn: bool = False
    eight_bit: bool = False
    pipelining: bool = False
    smtputf8: bool = False
    starttls: bool = False
    size: int | None = None  # octets; 0: no fixed limit; None: SIZE is not offered
    mechanisms: tuple[str, ...] = ()  # of AUTH, in lower case

    @classmethod
    def of(cls, extensions: Mapping[str, str], mechanisms: Sequence[str] = ()) -> Offer:
        """Build from lower-case keywords with their parameters."""
        size = extensions.get("size")
        return cls(
            dsn="dsn" in extensions,
            eight_bit="8bitmime" in extensions,
            pipelining="pipelining" in extensions,
            smtputf8="smtputf8" in extensions,
            starttls="starttls" in extensions,
            size=None if size is None else int(size) if size.isascii() and size.isdigit() and len(size) <= 20 else 0,
            mechanisms=tuple(mechanisms),
        )


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message with its envelope, and the extensions that it needs."""

    reverse_path: str
    options: EnvelopeOptions
    content: bytes
    eight_bit_header: bool
    eight_bit_body: bool
    long_lines: bool  # in the body: more than 998 octets without CRLF
    international: bool
    not_converted: str = ""  # the reason why the body could not be converted to 7 bits

    @classmethod
    def of(cls, reverse_path: str, options: EnvelopeOptions, content: bytes, not_converted: str = "") -> Parcel:
        """Build from a leased message. SMTPUTF8 is needed if its sender used it and the header is not ASCII, or if the
        reverse-path is not ASCII (RFC 6531 3.4).

        An 8-bit header received without SMTPUTF8 is sent as 8-bit octets, as programs have always done.
        """
        end = header_end(content)
        header, body = content[:end], content[end:]
        international = not reverse_path.isascii() or (options.smtputf8 and not header.isascii())
        return cls(
            reverse_path,
            options,
            content,
            eight_bit_header=not header.isascii(),
            eight_bit_body=not body.isascii(),
            long_lines=has_long_line(content, end),
            international=international,
            not_converted=not_converted,
        )


def needs_seven_bit(parcel: Parcel, offer: Offer) -> bool:
    """Whether the message should be converted to 7 bits for this server (RFC 6152 3, RFC 5321 4.5.3.1.6)."""
    return not parcel.not_converted and (parcel.long_lines or (parcel.eight_bit_body and not offer.eight_bit))


def problem(parcel: Parcel, offer: Offer, host: str) -> Outcome | None:
    """The outcome of a message that this server cannot take at all; None if it can."""
    if parcel.reverse_path and not _is_path(parcel.reverse_path):
        return failed("5.1.7", "the reverse-path is not a valid address")
    if parcel.options.envelope_id and not parameters.is_envelope_id(parcel.options.envelope_id):
        return failed("5.5.4", "the ENVID parameter is malformed")
    if parcel.international and not offer.smtputf8:
        return failed("5.6.7", f"{host} does not accept internationalised mail (SMTPUTF8)")  # RFC 6531 3.5
    if parcel.eight_bit_body and not offer.eight_bit:
        why = f", and the message cannot be converted to 7 bits: {parcel.not_converted}" if parcel.not_converted else ""
        return failed("5.6.3", f"{host} does not accept 8-bit content (8BITMIME){why}")  # RFC 6152 3
    if offer.size and len(parcel.content) > offer.size:
        return failed(
            "5.3.4", f"{host} accepts messages of at most {offer.size} octets, and this one has {len(parcel.content)}"
        )  # RFC 1870 6.1
    return None


def recipient_problem(recipient: EnvelopeRecipient, offer: Offer, host: str) -> Outcome | None:
    """The outcome of a recipient that this server cannot take; None if it can."""
    if not _is_path(recipient.forward_path):
        return failed("5.1.3", "the forward-path is not a valid address")
    original = recipient.original_recipient
    if original and not parameters.is_original_recipient(original):
        return failed("5.5.4", "the ORCPT parameter is malformed")
    if not recipient.forward_path.isascii() and not offer.smtputf8:
        return failed("5.6.7", f"{host} does not accept internationalised addresses (SMTPUTF8)")
    return None


def mail(parcel: Parcel, recipients: Sequence[EnvelopeRecipient], offer: Offer) -> tuple[bytes, ...]:
    """The words of the MAIL command."""
    words = ["MAIL", f"FROM:<{_spelled(parcel.reverse_path)}>"]
    if offer.size is not None:
        words.append(f"SIZE={_octets_sent(parcel.content)}")
    if (parcel.eight_bit_header or parcel.eight_bit_body) and offer.eight_bit:
        words.append("BODY=8BITMIME")
    if parcel.international or not all((one.forward_path + one.original_recipient).isascii() for one in recipients):
        words.append("SMTPUTF8")
    if offer.dsn:
        if parcel.options.dsn_return in RETURNS:
            words.append(RETURNS[parcel.options.dsn_return])
        if parcel.options.envelope_id:
            words.append(f"ENVID={parcel.options.envelope_id}")
    return tuple(word.encode() for word in words)


def rcpt(recipient: EnvelopeRecipient, offer: Offer) -> tuple[bytes, ...]:
    """The words of the RCPT command."""
    words = ["RCPT", f"TO:<{_spelled(recipient.forward_path)}>"]
    if offer.dsn:
        if recipient.notify:
            words.append("NOTIFY=" + ",".join(CONDITIONS[condition] for condition in recipient.notify))
        if recipient.original_recipient:
            words.append(f"ORCPT={recipient.original_recipient}")
    return tuple(word.encode() for word in words)


def _octets_sent(content: bytes) -> int:
    """The message's size for SIZE: with a CRLF after the last line, without doubled dots (RFC 1870 5)."""
    return len(content) + (0 if content.endswith(b"\r\n") else 2)


def _is_path(text: str) -> bool:
    try:
        parse_path(text)
    except BadPath:
        return False
    return True


def _spelled(path: str) -> str:
    """A path in the syntax of RFC 5321 4.1.2, quoted if necessary; "" is the null path. Raises BadPath."""
    return parse_path(path).address if path else ""


def stuffed(content: bytes, chunk_octets: int = CHUNK_OCTETS) -> Iterator[bytes]:
    """The octets after DATA in pieces of about `chunk_octets`, with doubled dots and the final dot (RFC 5321 4.5.2)."""
    start, at_line_start = 0, True
    while start < len(content):
        end = start + chunk_octets
        while content[end - 1 : end] == b"\r":  # never between CR and LF
            end += 1
        piece = content[start:end]
        dotted = piece.replace(b"\r\n.", b"\r\n..")
        yield b"." + dotted if at_line_start and piece[:1] == b"." else dotted
        start, at_line_start = end, piece[-2:] == b"\r\n"
    yield b".\r\n" if at_line_start else b"\r\n.\r\n"
