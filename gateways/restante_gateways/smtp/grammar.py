"""The parser of the arguments of EHLO, MAIL and RCPT (RFC 5321 4.1.2, 4.1.3, RFC 6531 3.3). *Pure.*

Local parts and parameter values (ENVID, ORCPT) keep their letter case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from restante_gateways.smtp.replies import NULL_PATH_REFUSED, Refused, refuse
from restante_mail.envelope import parameters
from restante_mail.envelope.paths import BadPath, Path, parse_path
from restante_mail.envelope.xtext import is_xtext

MAX_AUTH_CHARACTERS = 500  # RFC 4954 4

# These find the end of a path; `parse_path` checks its octets.
_MAILBOX = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^ "<>@]+)@(?:\[[^ \[\]<>]*\]|[^ <>@]+)')
_SOURCE_ROUTE = re.compile(r"@(?:\[[^ \[\]<>@]*\]|[^ ,:<>@]+)(?:,@(?:\[[^ \[\]<>@]*\]|[^ ,:<>@]+))*:")
_OPENING, _CLOSING, _NO_BRACKET = re.compile(r"< *"), re.compile(r" *>"), re.compile(r"(?= |$)")
_NULL_PATH = re.compile(r"< *>")
_POSTMASTER = re.compile(r"< *(postmaster) *>|(postmaster)(?= |$)", re.IGNORECASE)  # RFC 5321 4.5.1
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9\-]*)(?:=([!-<>-~\u0080-\U0010ffff]+))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# RFC 5322 3.2.3 atext and dots, without "=" and "?", which could form an encoded word.
_UNSAFE_IN_HELLO = re.compile(r"[^A-Za-z0-9.!#$%&'*+/^_`{|}~-]")
_UNSAFE_IN_LITERAL = re.compile(r"[^A-Za-z0-9.:%_-]")
MAX_HELLO_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class MailArguments:
    """The arguments of MAIL: the reverse-path (None is the null path) and its parameters."""

    reverse_path: Path | None
    size_octets: int | None = None  # RFC 1870
    body: str = "7BIT"  # or 8BITMIME, RFC 6152
    smtputf8: bool = False  # RFC 6531
    ret: str = ""  # FULL, HDRS or not given, RFC 3461 4.3
    envid: str = ""  # xtext as written, RFC 3461 4.4
    auth: str | None = None  # xtext as written, RFC 4954 5


@dataclass(frozen=True, slots=True)
class RcptArguments:
    """The arguments of RCPT: the forward-path and its parameters."""

    forward_path: Path
    notify: frozenset[str] = frozenset()  # NEVER alone, or of SUCCESS, FAILURE, DELAY; RFC 3461 4.1
    orcpt: str = ""  # "type;xtext" as written, RFC 3461 4.2


def parse_hello(argument: bytes) -> str:
    """The name given with EHLO or HELO, in a form that is safe in a Received field and in a log line.

    RFC 5321 4.1.1.1 requires a host name or an address literal, but 4.1.4 forbids refusing mail for a wrong name. So
    any name is accepted, and each unsafe character becomes "?". Raises Refused (501) without a name.
    """
    text = argument.decode("utf-8", "replace").strip(" ")[:MAX_HELLO_CHARACTERS]
    if not text:
        raise refuse(501, "5.5.4", "Syntax: EHLO or HELO, then a host name or an address literal")
    if text.startswith("[") and text.endswith("]"):
        return f"[{_UNSAFE_IN_LITERAL.sub('?', text[1:-1])}]"
    return _UNSAFE_IN_HELLO.sub("?", text)


def parse_mail(argument: bytes, *, extended: bool, authentication: bool) -> MailArguments:
    """Parse the argument of MAIL. `extended`: the client sent EHLO; `authentication`: AUTH is offered, so AUTH= is too.

    Raises Refused (501, 553, 555).
    """
    text = _after_keyword(argument, "FROM:", "MAIL FROM:<address>")
    null = _NULL_PATH.match(text)
    path, rest = (None, text[null.end() :]) if null else _path(text, "5.1.7", "sender")
    values = _parameters(rest, extended)
    smtputf8 = _flag(values, "SMTPUTF8")
    if path is not None and path.needs_smtputf8 and not smtputf8:
        raise refuse(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")  # RFC 6531 3.5
    arguments = MailArguments(
        reverse_path=path,
        size_octets=_size(_value(values, "SIZE")),
        body=_choice(values, "BODY", ("7BIT", "8BITMIME")) or "7BIT",
        smtputf8=smtputf8,
        ret=_choice(values, "RET", ("FULL", "HDRS")),
        envid=_envid(_value(values, "ENVID")),
        auth=_auth(_value(values, "AUTH")) if authentication else None,
    )
    _refuse_unknown(values)
    return arguments


def parse_rcpt(argument: bytes, *, extended: bool, smtputf8: bool) -> RcptArguments:
    """Parse the argument of RCPT. `smtputf8`: the transaction's MAIL had SMTPUTF8. Raises Refused (501, 553, 555)."""
    text = _after_keyword(argument, "TO:", "RCPT TO:<address>")
    if _NULL_PATH.match(text):
        raise Refused(NULL_PATH_REFUSED)
    bare = _POSTMASTER.match(text)
    path, rest = (Path(bare[1] or bare[2], ""), text[bare.end() :]) if bare else _path(text, "5.1.3", "recipient")
    if path.needs_smtputf8 and not smtputf8:
        raise refuse(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")
    values = _parameters(rest, extended)
    arguments = RcptArguments(path, _notify(_value(values, "NOTIFY")), _orcpt(_value(values, "ORCPT")))
    _refuse_unknown(values)
    return arguments


def _decode(argument: bytes) -> str:
    try:
        text = argument.decode("utf-8")
    except UnicodeDecodeError:
        raise refuse(501, "5.5.2", "The command is not UTF-8") from None
    if _CONTROL.search(text):
        raise refuse(501, "5.5.2", "The command has control characters")
    return text


def _after_keyword(argument: bytes, keyword: str, usage: str) -> str:
    text = _decode(argument)
    if text[: len(keyword)].upper() != keyword:
        raise refuse(501, "5.5.4", f"Syntax: {usage}")
    text = text[len(keyword) :].strip(" ")  # a space after the colon is a common, harmless fault
    if not text:
        raise refuse(501, "5.5.4", f"Syntax: {usage}")
    return text


def _path(text: str, enhanced: str, role: str) -> tuple[Path, str]:
    """The path at the beginning of the text, without its source route (RFC 5321 app. F.2), and the text after it.

    Accepts a path without angle brackets, or with spaces inside them: devices send both, and both are unambiguous.
    """
    opening = _OPENING.match(text)
    start = opening.end() if opening else 0
    if opening and (route := _SOURCE_ROUTE.match(text, start)):
        start = route.end()
    mailbox = _MAILBOX.match(text, start)
    closing = (_CLOSING if opening else _NO_BRACKET).match(text, mailbox.end()) if mailbox else None
    if mailbox is None or closing is None:
        raise refuse(501, enhanced, f"Bad {role} address syntax")
    try:
        return parse_path(mailbox[0]), text[closing.end() :]
    except BadPath as bad:
        raise refuse(501, enhanced, f"Bad {role} address: it {bad.problem}") from None


def _parameters(text: str, extended: bool) -> dict[str, str | None]:
    """ESMTP parameters by upper-case keyword; values are unchanged."""
    if not text.strip(" "):
        return {}
    if not text.startswith(" ") or not extended:
        raise refuse(501, "5.5.4", "Unexpected text after the address")
    values: dict[str, str | None] = {}
    for word in filter(None, text.split(" ")):
        found = _PARAMETER.fullmatch(word)
        keyword = found[1].upper() if found else ""
        if found is None or keyword in values:
            raise refuse(501, "5.5.4", "Bad or repeated parameter")
        values[keyword] = found[2]
    return values


def _refuse_unknown(values: Mapping[str, str | None]) -> None:
    if values:
        raise refuse(555, "5.5.4", "Parameter not recognized or not implemented")  # RFC 5321 4.1.1.11


def _flag(values: dict[str, str | None], keyword: str) -> bool:
    if keyword not in values:
        return False
    if values.pop(keyword) is not None:
        raise refuse(501, "5.5.4", f"{keyword} takes no value")
    return True


def _value(values: dict[str, str | None], keyword: str) -> str | None:
    """Remove and return a parameter's value; None if it is absent. Raises Refused if it has no value."""
    if keyword not in values:
        return None
    value = values.pop(keyword)
    if value is None:
        raise refuse(501, "5.5.4", f"{keyword} takes a value")
    return value


def _size(value: str | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,20}", value):
        raise refuse(501, "5.5.4", "SIZE takes a number of octets")
    return int(value)


def _choice(values: dict[str, str | None], keyword: str, allowed: tuple[str, ...]) -> str:
    value = _value(values, keyword)
    if value is None:
        return ""
    value = value.upper()
    if value not in allowed:
        raise refuse(501, "5.5.4", f"{keyword} is one of {', '.join(allowed)}")
    return value


def _envid(value: str | None) -> str:
    if value is None:
        return ""
    if not parameters.is_envelope_id(value):
        most = parameters.MAX_ENVELOPE_ID_CHARACTERS
        raise refuse(501, "5.5.4", f"ENVID takes xtext of at most {most} characters")
    return value


def _auth(value: str | None) -> str | None:
    if value is not None and (len(value) > MAX_AUTH_CHARACTERS or not is_xtext(value)):
        raise refuse(501, "5.5.4", f"AUTH takes xtext of at most {MAX_AUTH_CHARACTERS} characters")
    return value


def _notify(value: str | None) -> frozenset[str]:
    if value is None:
        return frozenset()
    words = value.upper().split(",")
    chosen = frozenset(words)
    if len(chosen) < len(words) or not (chosen == {"NEVER"} or chosen <= {"SUCCESS", "FAILURE", "DELAY"}):
        raise refuse(501, "5.5.4", "NOTIFY is NEVER, or some of SUCCESS, FAILURE, DELAY")
    return chosen


def _orcpt(value: str | None) -> str:
    if value is None:
        return ""
    if parameters.is_utf_8(value.partition(";")[0]):  # only this type may have non-ASCII characters (RFC 6533 3)
        value = parameters.in_ascii(value)
    if not parameters.is_original_recipient(value):
        most = parameters.MAX_ORIGINAL_RECIPIENT_CHARACTERS
        raise refuse(501, "5.5.4", f"ORCPT takes an address type, a semicolon and xtext, at most {most} characters")
    return value
