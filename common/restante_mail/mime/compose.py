"""Composing a message from structured parts (RFC 5322, RFC 2045 to 2047, RFC 2231), for drafts and the API. *Pure.*

The standard library's email package writes the body. This module writes the header, such that `summary` reads names and
subjects back unchanged, and that no value can begin another field.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.header import Header
from email.message import EmailMessage
from email.utils import format_datetime

from restante_mail.canonical import NulFound, canonicalise
from restante_mail.envelope.paths import BadPath, parse_path
from restante_mail.header.addresses import Address

__all__ = ["Attached", "ComposeError", "Outgoing", "compose"]


class ComposeError(ValueError):
    """A value is impossible in a message; `field` is the value's name in Outgoing."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Attached:
    """A file to attach. With a `content_id` (without brackets) it belongs to the HTML, which refers to it as cid:..."""

    name: str
    media_type: str
    octets: bytes
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The values of a new message. Ids have no angle brackets; addresses are local@domain."""

    from_: Sequence[Address]
    sent_at: datetime  # aware
    message_id: str
    sender: Address | None = None
    reply_to: Sequence[Address] = ()
    to: Sequence[Address] = ()
    cc: Sequence[Address] = ()
    bcc: Sequence[Address] = ()
    subject: str = ""
    in_reply_to: Sequence[str] = ()
    references: Sequence[str] = ()
    text: str | None = None
    html: str | None = None
    attachments: Sequence[Attached] = ()
    extra_fields: Sequence[tuple[str, str]] = ()  # other header fields, in order
    report_type: str = ""  # of a multipart/report with attachments (RFC 6522); "": multipart/mixed


_POLICY = policy.SMTP.clone(cte_type="7bit")  # every next hop accepts it (RFC 6152 3)
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff\u2028\u2029\x85]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_MESSAGE_ID = re.compile(r"[^\s<>]+")
_MEDIA_TYPE = re.compile(r"([A-Za-z0-9!#$&^_.+-]{1,127})/([A-Za-z0-9!#$&^_.+-]{1,127})")
_MUST_ESCAPE = re.compile(r'(["\\])')
_OWN = frozenset(
    "from sender reply-to to cc bcc subject date message-id in-reply-to references mime-version return-path received "
    "delivered-to resent-bcc".split()
)
_LINE = 76  # octets of a line, if it can be folded (RFC 5322 2.1.1)
_LONGEST_WORD = 900  # of a line's 998


def compose(parts: Outgoing) -> bytes:
    """The message, canonical (CRLF) and 7-bit unless an address or an attached message is not. Raises ComposeError.

    Bcc is kept; the transport removes it (`header.edits.submission_edit`).
    """
    if not parts.from_:
        raise ComposeError("from", "the message needs an author")  # RFC 5322 3.6
    if len(parts.from_) > 1 and parts.sender is None:
        raise ComposeError("sender", "a message of several authors needs a sender")  # RFC 5322 3.6.2
    lines = ["Date: " + format_datetime(parts.sent_at), "Message-ID: " + _ids("message_id", [parts.message_id])]
    lines.append(_mailboxes("From", parts.from_))
    if parts.sender is not None:
        lines.append(_mailboxes("Sender", [parts.sender]))
    for name, listed in (("Reply-To", parts.reply_to), ("To", parts.to), ("Cc", parts.cc), ("Bcc", parts.bcc)):
        if listed:
            lines.append(_mailboxes(name, listed))
    lines.append(_unstructured("Subject", parts.subject))
    if parts.in_reply_to:
        lines.append("In-Reply-To: " + _ids("in_reply_to", parts.in_reply_to))
    if parts.references:
        lines.append("References: " + _ids("references", parts.references))
    for name, value in parts.extra_fields:
        if not _FIELD_NAME.fullmatch(name) or name.lower() in _OWN or name.lower().startswith("content-"):
            raise ComposeError("extra_fields", f"a field named {name[:80]!r} cannot be added")
        lines.append(_unstructured(name, value))
    header = "".join(line + "\r\n" for line in lines).encode("utf-8")
    message, verbatim = _body(parts)
    body = message.as_bytes()
    for token, octets in verbatim.items():
        body = body.replace(token, octets, 1)
    return header + canonicalise(body).octets


def _checked(field: str, value: str) -> str:
    found = _CONTROL.search(value)
    if found:  # CR and LF would begin a field of the sender's choice
        raise ComposeError(field, f"the value has the control character {found[0]!r}")
    return value


def _mailboxes(name: str, listed: Sequence[Address]) -> str:
    """An address field, folded between addresses that do not fit in one line."""
    line, out = f"{name}:", []
    for at, address in enumerate(listed):
        text = _mailbox(name.lower().replace("-", "_"), address) + ("," if at + 1 < len(listed) else "")
        if len(line) + 1 + len(text) > _LINE and line.strip() and at:
            out.append(line)
            line = ""
        line += " " + text
    return "\r\n".join([*out, line])


def _mailbox(field: str, address: Address) -> str:
    _checked(field, address.name)
    try:
        parse_path(_checked(field, address.address))
    except BadPath as bad:
        raise ComposeError(field, f"the address {address.address[:320]!r} {bad.problem}") from None
    name = address.name.strip()
    if not name:
        return address.address
    if not name.isascii() or "=?" in name or len(name) > _LONGEST_WORD:
        name = _words(name, 0)
    elif not _ATOMS.fullmatch(name):
        name = '"' + _MUST_ESCAPE.sub(r"\\\1", name) + '"'
    return f"{name} <{address.address}>"


def _words(text: str, used: int) -> str:
    """The whole `text` as folded encoded words (RFC 2047 2), which keep every space."""
    first = max(_LINE - used, 40)
    return Header(text, "utf-8", maxlinelen=_LINE, header_name="x" * (_LINE - first)).encode(linesep="\r\n")


def _unstructured(name: str, value: str) -> str:
    """A field of free text: folded at its white space, or encoded if plain ASCII would not preserve it."""
    _checked("subject" if name == "Subject" else name, value)
    plain = value.isascii() and "=?" not in value and value == value.strip()
    if plain and len(name) + 2 + len(value) <= _LINE:
        return f"{name}: {value}"
    words = re.split(r"(?<=[^ \t])(?=[ \t])", value)
    if not plain or max(map(len, words)) > _LONGEST_WORD:
        return f"{name}: " + _words(value, len(name) + 2)
    line, out = f"{name}: {words[0]}", []
    for word in words[1:]:
        if len(line) + len(word) > _LINE:
            out.append(line)
            line = ""
        line += word
    return "\r\n".join([*out, line])


def _ids(field: str, ids: Sequence[str]) -> str:
    for one in ids:
        if not _MESSAGE_ID.fullmatch(_checked(field, one)) or len(one) > _LONGEST_WORD:
            raise ComposeError(field, f"not a message id: {one[:320]!r}")
    return "\r\n ".join(f"<{one}>" for one in ids)


def _body(parts: Outgoing) -> tuple[EmailMessage, dict[bytes, bytes]]:
    """The Content-* fields and the body of the message, and the octets that replace tokens in it."""
    verbatim: dict[bytes, bytes] = {}
    message = EmailMessage(policy=_POLICY)
    for field, text in (("text", parts.text), ("html", parts.html)):
        if text is not None and (found := re.search("[\x00\ud800-\udfff]", text)):
            raise ComposeError(field, f"the text has the character {found[0]!r}")
    related = [attached for attached in parts.attachments if attached.content_id and parts.html is not None]
    if parts.text is not None or parts.html is None:
        message.set_content(parts.text or "")
        if parts.html is not None:
            message.add_alternative(parts.html, subtype="html")
    else:
        message.set_content(parts.html, subtype="html")
    if related:
        payload = message.get_payload()
        shown = payload[-1] if isinstance(payload, list) else message
        assert isinstance(shown, EmailMessage)
        for attached in related:
            _attach(shown, attached, True, verbatim)
    for attached in parts.attachments:
        if attached not in related:
            _attach(message, attached, False, verbatim)
    if parts.report_type:
        message.set_type("multipart/report")
        message.set_param("report-type", parts.report_type)
    if "MIME-Version" not in message:
        message["MIME-Version"] = "1.0"
    return message, verbatim


def _attach(message: EmailMessage, attached: Attached, inside: bool, verbatim: dict[bytes, bytes]) -> None:
    kind = _MEDIA_TYPE.fullmatch(attached.media_type)
    if kind is None:
        raise ComposeError("attachments", f"not a media type: {attached.media_type[:80]!r}")
    maintype, subtype = kind[1].lower(), kind[2].lower()
    if maintype == "multipart":
        raise ComposeError("attachments", "a multipart cannot be attached as a file")
    octets, encoding = attached.octets, "base64"
    if maintype == "message" and subtype in ("rfc822", "global"):  # encoding is forbidden (RFC 2046 5.2.1)
        try:
            octets = canonicalise(octets).octets
        except NulFound as found:
            raise ComposeError("attachments", str(found)) from found
        encoding = "7bit" if octets.isascii() else "8bit"
        # The generator would change line ends and refuse 8-bit octets, so it gets a token that is replaced afterwards.
        token = f"verbatim-{len(verbatim)}-{hashlib.sha256(octets).hexdigest()}".encode()
        verbatim[token], octets = octets, token
    part = EmailMessage(policy=_POLICY)
    part.set_content(octets, maintype=maintype, subtype=subtype, cte=encoding)
    name = _checked("attachments", attached.name)
    part.add_header("Content-Disposition", "inline" if inside else "attachment", **({"filename": name} if name else {}))
    if attached.content_id:
        part["Content-ID"] = _ids("attachments", [attached.content_id])
    if inside and message.get_content_type() != "multipart/related":
        message.make_related()
    elif not inside and message.get_content_type() != "multipart/mixed":
        message.make_mixed()
    message.attach(part)
