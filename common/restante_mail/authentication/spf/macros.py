"""Macro strings and their expansion (RFC 7208 7). *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

__all__ = [
    "MAX_NAME_OCTETS",
    "BadMacro",
    "Macro",
    "MacroString",
    "parse_domain_spec",
    "parse_explanation",
    "parse_macro_string",
]

MAX_NAME_OCTETS = 253  # of an expanded domain name (RFC 7208 7.3)
MAX_EXPANDED_OCTETS = 16_384  # of any expansion, since a record may repeat a long value

_DOMAIN_LETTERS = frozenset("slodiphv")
_EXPLANATION_LETTERS = _DOMAIN_LETTERS | frozenset("crt")
_EXPANSION = re.compile(r"\{([A-Za-z])([0-9]*)([rR]?)([-.+,/_=]*)\}")
_ESCAPES = {"%": "%", "_": " ", "-": "%20"}
_LITERAL = re.compile(r"[!-$&-~]+")
_EXPLANATION_LITERAL = re.compile(r"[ -$&-~]+")
# "." toplabel [ "." ]: a label that is not all digits, and has no hyphen at either end.
_TOP_LABEL = re.compile(r"\.(?![0-9]+\.?$)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?$")


class BadMacro(ValueError):
    """The text is no macro string. `problem` says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Macro:
    """One `%{...}`."""

    letter: str  # lower case
    parts: int  # to keep, counted from the right; 0: all
    reverse: bool
    delimiters: str
    escape: bool  # for a URL: the letter was upper case

    def expand(self, value: str) -> str:
        """The value split at the delimiters, reversed, cut, joined by dots and escaped (RFC 7208 7.3)."""
        if self.parts or self.reverse or self.delimiters != ".":
            pieces = re.split(f"[{re.escape(self.delimiters)}]", value)
            if self.reverse:
                pieces.reverse()
            value = ".".join(pieces[-self.parts :])
        return quote(value, safe="") if self.escape else value


@dataclass(frozen=True, slots=True)
class MacroString:
    """A parsed macro string: literal text and macros."""

    pieces: tuple[str | Macro, ...]

    @property
    def letters(self) -> frozenset[str]:
        """The macro letters in it, in lower case."""
        return frozenset(piece.letter for piece in self.pieces if isinstance(piece, Macro))

    def expand(self, values: Mapping[str, str]) -> str:
        """The text with the values of all its letters, at most MAX_EXPANDED_OCTETS characters of it."""
        expanded: list[str] = []
        size = 0
        for piece in self.pieces:
            text = piece if isinstance(piece, str) else piece.expand(values[piece.letter])
            expanded.append(text)
            size += len(text)
            if size > MAX_EXPANDED_OCTETS:
                break
        return "".join(expanded)[:MAX_EXPANDED_OCTETS]

    def expand_name(self, values: Mapping[str, str]) -> str:
        """A domain name without its final dot; labels are cut from the left to fit (RFC 7208 7.3)."""
        name = self.expand(values).removesuffix(".")
        if len(name) > MAX_NAME_OCTETS:
            _, _, name = name[-MAX_NAME_OCTETS - 1 :].partition(".")
        return name


def parse_macro_string(text: str) -> MacroString:
    """The macro string of a term. Raises BadMacro."""
    return _parse(text, _DOMAIN_LETTERS, _LITERAL)[0]


def parse_explanation(text: str) -> MacroString:
    """An explain-string (RFC 7208 6.2): it may have spaces, and the macros c, r and t. Raises BadMacro."""
    return _parse(text, _EXPLANATION_LETTERS, _EXPLANATION_LITERAL)[0]


def parse_domain_spec(text: str) -> MacroString:
    """A domain-spec: a macro string that ends with a macro or a top-level label (RFC 7208 7.1). Raises BadMacro."""
    if not text:
        raise BadMacro("the domain is missing")
    parsed, ends_with_macro = _parse(text, _DOMAIN_LETTERS, _LITERAL)
    if not ends_with_macro and _TOP_LABEL.search(text[-MAX_NAME_OCTETS:]) is None:
        raise BadMacro(f'"{text[-64:]}" is no domain name')
    return parsed


def _parse(text: str, letters: frozenset[str], literal: re.Pattern[str]) -> tuple[MacroString, bool]:
    """The macro string, and whether it ends with a macro-expand, which "%%", "%_" and "%-" are, too."""
    pieces: list[str | Macro] = []
    at, ends_with_macro = 0, False
    while at < len(text):
        ends_with_macro = text[at] == "%"
        if plain := literal.match(text, at):
            pieces.append(plain[0])
            at = plain.end()
        elif not ends_with_macro:
            raise BadMacro(f"the character {text[at]!r} is not allowed")
        elif (escaped := _ESCAPES.get(text[at + 1 : at + 2])) is not None:
            pieces.append(escaped)
            at += 2
        elif found := _EXPANSION.match(text, at + 1):
            pieces.append(_macro(found, letters))
            at = found.end()
        else:
            raise BadMacro(f'"{text[at : at + 16]}" is no macro')
    return MacroString(tuple(pieces)), ends_with_macro


def _macro(found: re.Match[str], letters: frozenset[str]) -> Macro:
    letter, digits, reverse, delimiters = found.groups()
    if letter.lower() not in letters:
        raise BadMacro(f'there is no macro "%{{{letter}}}" here')
    parts = digits.lstrip("0")
    if digits and not parts:
        raise BadMacro(f'"%{found[0]}" keeps no parts')
    return Macro(letter.lower(), int(parts[:9] or 0), bool(reverse), delimiters or ".", letter.isupper())
