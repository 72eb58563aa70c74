"""Addresses as the directory compares them. *Pure*.

An address is kept as it was spelled; what is compared is its key: local part unquoted, case-folded, NFC; domain in
A-labels, lower case. Two spellings of one address have one key (docs/design.md "Lookup").
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import idna

from restante.errors import InvalidAddress

# RFC 5321 4.5.3.1.1 asks for 64 at least, and for no limit where possible: return paths of mailing lists are longer.
MAX_LOCAL_PART_OCTETS = 255
MAX_DOMAIN_OCTETS = 255  # RFC 5321 4.5.3.1.2
MAX_ADDRESS_OCTETS = MAX_LOCAL_PART_OCTETS + 1 + MAX_DOMAIN_OCTETS
DETAIL_SEPARATOR = "+"

# RFC 5322 3.2.3 atext, and beyond ASCII what RFC 6531 3.3 adds.
_DOT_STRING = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+)*"
)
# Providers have given out addresses such as a..b@ and a.@: read as they come, written in quotes.
_DOTS_ANYWHERE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff.-]+")
# RFC 5321 4.1.2: qtextSMTP and quoted-pairSMTP; one escaped or plain character a group.
_QUOTED_STRING = re.compile(r'"((?:[ !#-\[\]-~\u00a0-\U0010ffff]|\\[ -~])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_ASCII_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")  # "_" is no host name, but mail goes there
_LITERAL = re.compile(r"\[[0-9A-Za-z.:-]+\]")
_FORBIDDEN = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, surrogates, private, unassigned, separators


@dataclass(frozen=True, slots=True)
class Address:
    """One mail address. `str()` gives it as it is spelled, quoting what must be quoted."""

    local_part: str  # unquoted, NFC, letter case kept
    domain: str  # as given, NFC; or an address literal in its brackets
    ascii_domain: str  # A-labels, lower case; or the literal, lower case

    @property
    def key(self) -> str:
        """What is compared. The last "@" divides local part and domain."""
        return f"{_fold(self.local_part)}@{self.ascii_domain}"

    def __str__(self) -> str:
        return f"{quoted(self.local_part)}@{self.domain}"


def parse(text: str) -> Address:
    """An addr-spec as RFC 5321 4.1.2 and RFC 6531 3.3 have it: no comments, no source route, no brackets.

    Beyond them, dots may stand anywhere in a local part without quotes. Raises InvalidAddress, which tells the problem.
    """
    if not text:
        raise InvalidAddress(address=text, problem="is empty")
    if len(text) > MAX_ADDRESS_OCTETS or len(text.encode("utf-8", "surrogatepass")) > MAX_ADDRESS_OCTETS:
        raise InvalidAddress(address=text[:MAX_ADDRESS_OCTETS], problem=f"is longer than {MAX_ADDRESS_OCTETS} octets")
    if not text.isascii():
        if any(unicodedata.category(character) in _FORBIDDEN for character in text):
            raise InvalidAddress(address=text, problem="has characters that addresses cannot have")
        text = unicodedata.normalize("NFC", text)
    spelled, at, domain = text.rpartition("@")
    if not at:
        raise InvalidAddress(address=text, problem="has no domain")
    return Address(_local_part(spelled, text), domain, ascii_domain(domain, literal=True, address=text))


def key(text: str) -> str:
    """The key of an address. Raises InvalidAddress."""
    return parse(text).key


def split_key(address_key: str) -> tuple[str, str]:
    """(folded local part, ascii domain) of a key."""
    local_part, _, domain = address_key.rpartition("@")
    return local_part, domain


def without_detail(address_key: str) -> str | None:
    """The key without `+detail`, or None when it has none. A leading "+" is not a separator."""
    local_part, domain = split_key(address_key)
    base, separator, _ = local_part.partition(DETAIL_SEPARATOR)
    return f"{base}@{domain}" if separator and base else None


def ascii_domain(name: str, *, literal: bool = False, address: str = "") -> str:
    """A domain in A-labels, lower case (UTS 46, not transitional); with `literal`, also an address literal.

    Raises InvalidAddress. `address` is what the error names instead of the domain.
    """
    shown = address or name
    if literal and name.startswith("["):
        if not _LITERAL.fullmatch(name):
            raise InvalidAddress(address=shown, problem="has a malformed address literal")
        return name.lower()
    lowered = name.lower() if name.isascii() else _a_labels(name, shown)
    if not lowered or len(lowered) > MAX_DOMAIN_OCTETS:
        raise InvalidAddress(address=shown, problem=f"needs a domain of 1 to {MAX_DOMAIN_OCTETS} octets")
    if not all(_ASCII_LABEL.fullmatch(label) for label in lowered.split(".")):
        raise InvalidAddress(address=shown, problem="has a domain that cannot be one")
    return lowered


def quoted(local_part: str) -> str:
    """A local part as it is written: a dot-string where possible, else a quoted string (RFC 5321 4.1.2)."""
    if _DOT_STRING.fullmatch(local_part):
        return local_part
    escaped = local_part.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _a_labels(name: str, shown: str) -> str:
    if len(name) > MAX_DOMAIN_OCTETS:
        raise InvalidAddress(address=shown, problem=f"needs a domain of 1 to {MAX_DOMAIN_OCTETS} octets")
    try:
        return idna.encode(name, uts46=True, std3_rules=True, transitional=False).decode("ascii").lower()
    except idna.IDNAError as error:
        raise InvalidAddress(address=shown, problem="has a domain that is no internationalised one") from error


def _local_part(spelled: str, address: str) -> str:
    if len(spelled.encode("utf-8", "surrogatepass")) > MAX_LOCAL_PART_OCTETS:
        raise InvalidAddress(address=address, problem=f"has a local part above {MAX_LOCAL_PART_OCTETS} octets")
    if _DOTS_ANYWHERE.fullmatch(spelled):
        return spelled
    inner = _QUOTED_STRING.fullmatch(spelled)
    if inner is None:
        raise InvalidAddress(address=address, problem="has a local part that is neither a dot-string nor quoted")
    # "alice" and alice are the same mailbox: quotes that are not needed mean nothing (RFC 5321 4.1.2).
    unquoted = _QUOTED_PAIR.sub(r"\1", inner.group(1))
    if not unquoted:
        raise InvalidAddress(address=address, problem="has an empty local part")
    return unquoted


def _fold(local_part: str) -> str:
    # Case folding can undo NFC, so it is normalised once more.
    return local_part.lower() if local_part.isascii() else unicodedata.normalize("NFC", local_part.casefold())
