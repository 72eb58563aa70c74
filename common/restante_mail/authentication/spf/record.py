"""The grammar of SPF records (RFC 7208 4.5, 4.6.1, 12). *Pure.*"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from restante_mail.authentication.dns import Address
from restante_mail.authentication.results import Result
from restante_mail.authentication.spf.macros import BadMacro, MacroString, parse_domain_spec, parse_macro_string

__all__ = ["MAX_RECORD_OCTETS", "BadRecord", "Mechanism", "Record", "parse_record", "select_record"]

MAX_RECORD_OCTETS = 8192  # RFC 7208 3.4 recommends 450

_VERSION = b"v=spf1"
_QUALIFIERS = {"+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_MECHANISM = re.compile(r"([-+~?]?)([A-Za-z][A-Za-z0-9_.-]*)(.*)", re.DOTALL)
_PREFIXES = re.compile(r"(?:/(0|[1-9][0-9]{0,2}))?(?://(0|[1-9][0-9]{0,2}))?$")
_ADDRESS = re.compile(r":([0-9A-Fa-f.:]+)(?:/(0|[1-9][0-9]{0,2}))?")


class BadRecord(ValueError):
    """The record has a syntax error. `problem` says which."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One directive."""

    text: str  # as the record has it
    name: str  # lower case
    result: Result  # when it matches
    target: MacroString | None = None  # None: the domain whose record it is
    network: Address | None = None  # of ip4 and ip6
    prefix4: int = 32  # bits
    prefix6: int = 128


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed record."""

    mechanisms: tuple[Mechanism, ...]
    redirect: MacroString | None = None
    explanation: MacroString | None = None


def select_record(texts: Sequence[bytes]) -> bytes | None:
    """The SPF record among the TXT records of a domain (RFC 7208 4.5). Raises BadRecord when there are several."""
    records = [text for text in texts if text[:6].lower() == _VERSION and text[6:7] in (b"", b" ")]
    if len(records) > 1:
        raise BadRecord(f"there are {len(records)} SPF records")
    return records[0] if records else None


@functools.lru_cache(maxsize=256)  # the records of large providers come again and again
def parse_record(octets: bytes) -> Record:
    """The record, all of which must be valid (RFC 7208 4.6). Raises BadRecord."""
    if len(octets) > MAX_RECORD_OCTETS:
        raise BadRecord(f"the record is longer than {MAX_RECORD_OCTETS} octets")
    if not octets.isascii():
        raise BadRecord("the record has non-ASCII octets")  # RFC 7208 3.1
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, MacroString] = {}
    for term in octets.decode("ascii")[len(_VERSION) :].split(" "):
        if not term:
            continue
        try:
            if modifier := _MODIFIER.fullmatch(term):
                _add_modifier(modifiers, modifier[1].lower(), modifier[2])
            else:
                mechanisms.append(_mechanism(term))
        except BadMacro as error:
            raise BadRecord(f'"{_shown(term)}": {error.problem}') from None
    return Record(tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"))


def _add_modifier(modifiers: dict[str, MacroString], name: str, value: str) -> None:
    if name not in ("redirect", "exp"):
        parse_macro_string(value)  # RFC 7208 6: unknown modifiers are ignored, but must be valid
        return
    if name in modifiers:
        raise BadRecord(f"{name}= occurs twice")
    modifiers[name] = parse_domain_spec(value)


def _mechanism(term: str) -> Mechanism:
    found = _MECHANISM.fullmatch(term)
    if found is None:
        raise BadRecord(f'"{_shown(term)}" is no term')
    name, rest = found[2].lower(), found[3]
    result = _QUALIFIERS[found[1] or "+"]
    match name:
        case "all":
            if rest:
                raise BadRecord(f'"{_shown(term)}": all takes no argument')
            return Mechanism(term, name, result)
        case "include" | "exists":
            if not rest.startswith(":"):
                raise BadRecord(f'"{_shown(term)}": the domain is missing')
            return Mechanism(term, name, result, parse_domain_spec(rest[1:]))
        case "ptr":
            return Mechanism(term, name, result, _target(term, rest))
        case "a" | "mx":
            prefixes = _PREFIXES.search(rest)
            assert prefixes is not None  # it matches the empty end
            target = _target(term, rest[: prefixes.start()])
            return Mechanism(
                term, name, result, target, None, _prefix(term, prefixes[1], 32), _prefix(term, prefixes[2], 128)
            )
        case "ip4" | "ip6":
            return _network(term, name, result, rest)
        case _:
            raise BadRecord(f'"{_shown(term)}": there is no mechanism "{_shown(name)}"')


def _target(term: str, rest: str) -> MacroString | None:
    if not rest:
        return None
    if not rest.startswith(":"):
        raise BadRecord(f'"{_shown(term)}" is no term')
    return parse_domain_spec(rest[1:])


def _network(term: str, name: str, result: Result, rest: str) -> Mechanism:
    bits = 32 if name == "ip4" else 128
    found = _ADDRESS.fullmatch(rest)
    try:
        if found is None:
            raise AddressValueError(rest)
        address = IPv4Address(found[1]) if name == "ip4" else IPv6Address(found[1])
    except AddressValueError:
        raise BadRecord(f'"{_shown(term)}": this is no network') from None
    prefix = _prefix(term, found[2], bits)
    return Mechanism(term, name, result, None, address, prefix, prefix)


def _prefix(term: str, digits: str | None, bits: int) -> int:
    if digits is None:
        return bits
    if int(digits) > bits:
        raise BadRecord(f'"{_shown(term)}": the prefix is longer than {bits} bits')
    return int(digits)


def _shown(text: str) -> str:
    """A term for a message: printable and short."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:64])
