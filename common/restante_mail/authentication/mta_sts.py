"""MTA-STS records and policies (RFC 8461 3.1, 3.2, 4.1). *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

MAX_POLICY_OCTETS = 64 << 10  # of a policy; RFC 8461 3.3 advises it
MAX_PATTERNS = 1_000  # mx lines of a policy
MAX_MAX_AGE_SECONDS = 31_557_600  # RFC 8461 3.2
MAX_RECORD_OCTETS = 4_096
_ID = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})[ \t]{0,64}:[ \t]{0,64}(.{0,1000})", re.ASCII)
_AGE = re.compile(r"[0-9]{1,10}", re.ASCII)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)


class Mode(Enum):
    """The mode of a policy (RFC 8461 5). The value is its keyword."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


class BadPolicy(Exception):
    """The text is no valid policy. The argument is the reason."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy (RFC 8461 3.2)."""

    mode: Mode
    patterns: tuple[str, ...]  # host names in lower case; "*." stands for one label
    max_age_seconds: int  # 1 to 31557600

    def matches(self, host: str) -> bool:
        """Whether a pattern names the MX host (RFC 8461 4.1)."""
        name = host.lower().rstrip(".")
        label, _, parent = name.partition(".")
        wildcard = f"*.{parent}" if label else name
        return any(pattern in (name, wildcard) for pattern in self.patterns)

    def lines(self) -> tuple[str, ...]:
        """The lines of the policy, without unknown fields."""
        named = [f"mx: {pattern}" for pattern in self.patterns]
        return ("version: STSv1", f"mode: {self.mode.value}", *named, f"max_age: {self.max_age_seconds}")


def record_id(records: Sequence[bytes]) -> str | None:
    """The policy id in the TXT records of `_mta-sts.DOMAIN`; None without exactly one valid record (RFC 8461 3.1)."""
    named = [record for record in records if re.match(rb"v=STSv1[ \t]{0,64};", record)]
    if len(named) != 1 or len(named[0]) > MAX_RECORD_OCTETS or not named[0].isascii():
        return None
    for field in named[0].decode("ascii").split(";")[1:]:
        key, equals, value = field.strip(" \t").partition("=")
        if key == "id" and equals:  # a repeated field counts once: RFC 8461 3.2
            return value if is_record_id(value) else None
    return None


def is_record_id(text: str) -> bool:
    """Whether the text is an id of a record."""
    return _ID.fullmatch(text) is not None


def parse_policy(octets: bytes) -> StsPolicy:
    """A policy from the octets of its file. Lines end with LF or CRLF, unknown fields are ignored. Raises BadPolicy."""
    if len(octets) > MAX_POLICY_OCTETS:
        raise BadPolicy(f"it has more than {MAX_POLICY_OCTETS} octets")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise BadPolicy("it is not UTF-8") from None
    first: dict[str, str] = {}
    patterns: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r \t")
        if not line:
            continue
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BadPolicy(f"line {number} is not KEY: VALUE")
        key, value = field[1], field[2]
        if key == "mx":
            patterns.append(_pattern(value, number))
        else:
            first.setdefault(key, value)
    return _policy(first, patterns)


def _policy(first: dict[str, str], patterns: list[str]) -> StsPolicy:
    if first.get("version") != "STSv1":
        raise BadPolicy("it has no line version: STSv1")
    try:
        mode = Mode(first.get("mode"))
    except ValueError:
        raise BadPolicy("it has no mode enforce, testing or none") from None
    age = first.get("max_age", "")
    if not _AGE.fullmatch(age):
        raise BadPolicy("it has no max_age in seconds")
    if not patterns and mode is not Mode.NONE:
        raise BadPolicy("it has no mx")
    if len(patterns) > MAX_PATTERNS:
        raise BadPolicy(f"it has more than {MAX_PATTERNS} mx lines")
    return StsPolicy(mode, tuple(patterns), min(max(int(age), 1), MAX_MAX_AGE_SECONDS))


def _pattern(value: str, line: int) -> str:
    """A pattern in lower case. Raises BadPolicy."""
    pattern = value.lower().rstrip(".")
    labels = pattern.removeprefix("*.").split(".")
    if len(pattern) > 255 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadPolicy(f"the mx of line {line} is no host name")
    return pattern
