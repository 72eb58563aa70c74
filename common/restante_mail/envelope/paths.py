"""Paths of the transport envelope: RFC 5321 4.1.2 `Mailbox`, with RFC 6531 3.3 beyond ASCII. *Pure.*

A path keeps its spelling and letter case, in NFC, without unnecessary quotes around the local part. This grammar is
wider than the RFC in three places, because such mail exists: local parts may have up to 255 octets (return paths of
mailing lists), dots may be anywhere in them (providers assigned a..b@ and a.@; the output quotes them), and domains may
contain "_".
"""

from __future__ import annotations

import functools
import ipaddress
import re
import unicodedata
from dataclasses import dataclass

import idna

__all__ = ["MAX_PATH_OCTETS", "BadPath", "Path", "ascii_domain", "parse_path", "quoted_local_part"]

MAX_LOCAL_PART_OCTETS = 255  # RFC 5321 4.5.3.1.1 requires at least 64, and recommends no limit
MAX_DOMAIN_OCTETS = 255  # RFC 5321 4.5.3.1.2
MAX_PATH_OCTETS = MAX_LOCAL_PART_OCTETS + 1 + MAX_DOMAIN_OCTETS

# RFC 5322 3.2.3 atext, and the non-ASCII characters that RFC 6531 3.3 adds.
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-"
_DOT_STRING = re.compile(rf"[{_ATEXT}]+(\.[{_ATEXT}]+)*")
_DOTS_ANYWHERE = re.compile(rf"[{_ATEXT}.]+")
# RFC 5321 4.1.2: qtextSMTP and quoted-pairSMTP.
_QUOTED_STRING = re.compile(r'"((?:[ !#-\[\]-~\u00a0-\U0010ffff]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_MUST_ESCAPE = re.compile(r'(["\\])')
_ASCII_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")  # at most 63 octets (RFC 1035 2.3.4)
_FORBIDDEN = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, surrogates, private, unassigned, separators


class BadPath(ValueError):
    """The text is not a path. `problem` is a predicate, such as "has no domain"."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Path:
    """A mailbox of the transport envelope."""

    local_part: str  # unquoted
    domain: str  # in its own spelling, or a bracketed address literal; empty for <Postmaster> alone (RFC 5321 4.5.1)

    @property
    def address(self) -> str:
        """The canonical spelling, quoted only if RFC 5321 4.1.2 requires it."""
        local = quoted_local_part(self.local_part)
        return f"{local}@{self.domain}" if self.domain else local

    def __str__(self) -> str:
        return self.address

    @property
    def ascii_domain(self) -> str:
        """The domain in lower case and A-labels; an address literal in lower case."""
        return self.domain.lower() if self.domain.isascii() else _a_labels(self.domain)

    @property
    def key(self) -> str:
        """The key for comparing paths: all spellings of one mailbox have the same. Its last "@" precedes the domain.

        It ignores letter case, also in the local part, although RFC 5321 2.4 permits case-sensitive local parts.
        """
        local_part = self.local_part
        # Case folding may produce text that is not NFC.
        folded = local_part.lower() if local_part.isascii() else unicodedata.normalize("NFC", local_part.casefold())
        return f"{folded}@{self.ascii_domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the path has non-ASCII characters (RFC 6531 3.2)."""
        return not (self.local_part.isascii() and self.domain.isascii())


def parse_path(text: str) -> Path:
    """Parse a path without angle brackets, source route and parameters. Comments are not allowed. Raises BadPath."""
    if not text:
        raise BadPath("is empty")
    if len(text) > MAX_PATH_OCTETS or len(text.encode("utf-8", "surrogatepass")) > MAX_PATH_OCTETS:
        raise BadPath(f"is longer than {MAX_PATH_OCTETS} octets")
    if not text.isascii():
        if any(unicodedata.category(character) in _FORBIDDEN for character in text):
            raise BadPath("has characters that are not allowed in an address")
        text = unicodedata.normalize("NFC", text)
    local_part, at, domain = text.rpartition("@")  # a quoted local part may contain "@", a domain may not
    if not at:
        raise BadPath("has no domain")
    path = Path(_local_part(local_part), domain)
    ascii_domain(domain, literal=True)
    return path


@functools.lru_cache(maxsize=4096)  # the same domains come again and again
def ascii_domain(name: str, *, literal: bool = False) -> str:
    """A domain in A-labels and lower case (UTS 46, nontransitional); with `literal`, also an address literal.

    Raises BadPath.
    """
    if literal and name.startswith("["):
        return _address_literal(name)
    lowered = name.lower() if name.isascii() else _a_labels(name)
    if not lowered or len(lowered) > MAX_DOMAIN_OCTETS:
        raise BadPath(f"needs a domain of 1 to {MAX_DOMAIN_OCTETS} octets")
    if not all(_ASCII_LABEL.fullmatch(label) for label in lowered.split(".")):
        raise BadPath("has an invalid domain")
    return lowered


def quoted_local_part(local_part: str) -> str:
    """A local part in SMTP syntax: a dot-string if possible, else a quoted string (RFC 5321 4.1.2)."""
    if _DOT_STRING.fullmatch(local_part):
        return local_part
    return '"' + _MUST_ESCAPE.sub(r"\\\1", local_part) + '"'


def _a_labels(name: str) -> str:
    if len(name) > MAX_DOMAIN_OCTETS:
        raise BadPath(f"needs a domain of 1 to {MAX_DOMAIN_OCTETS} octets")
    try:
        return idna.encode(name, uts46=True, std3_rules=True, transitional=False).decode("ascii").lower()
    except idna.IDNAError as error:
        raise BadPath("has an invalid internationalised domain") from error


def _address_literal(text: str) -> str:
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]` in lower case (RFC 5321 4.1.3). Other literals raise BadPath."""
    inner = text[1:-1].lower() if text.endswith("]") else ""
    try:
        if "%" in inner:  # ipaddress accepts a zone, the RFC does not
            raise ValueError("zone")
        if inner.startswith("ipv6:"):
            ipaddress.IPv6Address(inner[5:])
        else:
            ipaddress.IPv4Address(inner)
    except ValueError:
        raise BadPath("has a malformed address literal") from None
    return f"[{inner}]"


def _local_part(spelled: str) -> str:
    if len(spelled.encode("utf-8", "surrogatepass")) > MAX_LOCAL_PART_OCTETS:
        raise BadPath(f"has a local part of more than {MAX_LOCAL_PART_OCTETS} octets")
    if _DOTS_ANYWHERE.fullmatch(spelled):
        return spelled
    inner = _QUOTED_STRING.fullmatch(spelled)
    if inner is None:
        raise BadPath("has an invalid local part, which must be a dot-string or a quoted string")
    return _QUOTED_PAIR.sub(r"\1", inner[1])
