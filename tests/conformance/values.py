"""The scenario's values: filled in before a command is sent, matched against its result. *Pure, but for `$random`,
`$now` and the files that `$message` and `$file` name.*

README.md, "The scenario's files", is the specification.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

MESSAGES = Path(__file__).parent / "messages"
REQUEST_ID_OCTETS = 16

_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)([+-]\d+)?\}")


class ScenarioError(Exception):
    """A fault of the scenario itself: an unbound variable, a missing file."""


@dataclass
class Values:
    """Variables, and the filling in of values. `scratch` is the directory that `$file` writes to."""

    scratch: Path
    variables: dict[str, Any] = field(default_factory=dict)
    _request_ids: dict[str, str] = field(default_factory=dict)
    _files: int = 0

    def fill(self, value: Any) -> Any:
        """The value with every entry of README.md's first list replaced. Raises ScenarioError."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, Mapping):
            for key, make in self._makers().items():
                if key in value:
                    return make(value)
            return {key: self.fill(item) for key, item in value.items() if key != "why"}
        return value

    def lookup(self, name: str) -> Any:
        """The value of a variable, or a value inside it. Raises ScenarioError."""
        found: Any = self.variables
        for step in name.split("."):
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, TypeError, ValueError):
                raise ScenarioError(f"${{{name}}} is not bound") from None
        return found

    def _text(self, text: str) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole is not None:
            return self._referred(whole)
        return _REFERENCE.sub(lambda found: str(self._referred(found)), text)

    def _referred(self, found: re.Match[str]) -> Any:
        value = self.lookup(found[1])
        if found[2] is None:
            return value
        return type(value)(int(value) + int(found[2]))

    def _makers(self) -> dict[str, Callable[[Mapping[str, Any]], Any]]:
        return {
            "$octets": lambda value: _base64(self._octets(value)),
            "$message": lambda value: _base64(self._octets(value)),
            "$random": lambda value: _base64(self._octets(value)),
            "$request_id": self._request_id,
            "$plain": self._plain,
            "$now": lambda value: (datetime.now(UTC) + timedelta(seconds=value["$now"])).isoformat(),
            "$file": self._file,
            "$repeat": self._repeat,
            "$nest": self._nest,
            "$join": lambda value: [item for part in self.fill(value["$join"]) for item in part],
        }

    def _octets(self, value: Any) -> bytes:
        octets: bytes
        if isinstance(value, str):
            return str(self._text(value)).encode()
        if isinstance(value, list):
            return b"".join(self._octets(piece) for piece in value)
        if "$message" in value:
            octets = (MESSAGES / value["$message"]).read_bytes()
        elif "$random" in value:
            octets = secrets.token_bytes(value["$random"])
        else:
            octets = self._octets(value["$octets"])
        if value.get("crlf"):
            octets = octets.replace(b"\n", b"\r\n")
        return octets * int(value.get("times", 1))

    def _request_id(self, value: Mapping[str, Any]) -> str:
        return self._request_ids.setdefault(value["$request_id"], _base64(secrets.token_bytes(REQUEST_ID_OCTETS)))

    def _plain(self, value: Mapping[str, Any]) -> str:
        user, password = self.fill(value["$plain"])
        return _base64(f"\0{user}\0{password}".encode())

    def _file(self, value: Mapping[str, Any]) -> str:
        self._files += 1
        path = self.scratch / f"file-{self._files}"
        path.write_bytes(self._octets(value["$file"]))
        return str(path)

    def _repeat(self, value: Mapping[str, Any]) -> list[Any]:
        made: list[Any] = []
        outer = self.variables.get("index")
        for index in range(value["count"]):
            self.variables["index"] = index
            one = self.fill(value["$repeat"])
            made.extend(one if isinstance(one, list) else [one])
        self.variables["index"] = outer
        return made

    def _nest(self, value: Mapping[str, Any]) -> Any:
        made = self.fill(value["value"])
        for _ in range(value["depth"]):
            made = {value["$nest"]: made}
        return made


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


ABSENT = object()
"""The value of a missing field in a match."""


@dataclass
class Match:
    """The mismatches of a value, and the variables bound by the match."""

    problems: list[str] = field(default_factory=list)
    bound: dict[str, Any] = field(default_factory=dict)

    def take(self, other: Match) -> None:
        """Add the mismatches and variables of another match."""
        self.problems += other.problems
        self.bound |= other.bound


def match(expected: Any, actual: Any, where: str = "") -> Match:
    """Match a value against an expectation that has been filled in."""
    if isinstance(expected, Mapping):
        for key, matcher in _MATCHERS.items():
            if key in expected:
                return matcher(expected, actual, where)
        return _match_object(expected, actual, where)
    if isinstance(expected, list):
        return _match_list(expected, actual, where)
    return _found(_same(expected, actual), f"{where or 'it'} is {_shown(actual)}, not {_shown(expected)}")


def _same(expected: Any, actual: Any) -> bool:
    if isinstance(expected, int) and not isinstance(expected, bool) and isinstance(actual, str):
        return actual == str(expected)  # 64-bit integers are strings
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    return bool(expected == actual)


def _found(fits: bool, problem: str) -> Match:
    return Match([] if fits else [problem])


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:297]}..."


def _match_object(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    if not isinstance(actual, Mapping):
        return Match([f"{where or 'it'} is {_shown(actual)}, not an object"])
    found = Match()
    for key, value in expected.items():
        if key != "why":
            found.take(match(value, actual.get(key, ABSENT), f"{where}.{key}" if where else key))
    return found


def _match_list(expected: list[Any], actual: Any, where: str) -> Match:
    if not isinstance(actual, list) or len(actual) != len(expected):
        length = f"has {len(actual)} entries" if isinstance(actual, list) else f"is {_shown(actual)}"
        return Match([f"{where or 'it'} {length}, not {len(expected)}: {_shown(actual)}"])
    found = Match()
    for index, (wanted, given) in enumerate(zip(expected, actual, strict=True)):
        found.take(match(wanted, given, f"{where}[{index}]"))
    return found


def _any(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    return _found(actual is not ABSENT, f"{where} is absent")


def _absent(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    return _found(actual is ABSENT, f"{where} is {_shown(actual)}, not absent")


def _bind(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    if actual is ABSENT:
        return Match([f"{where} is absent"])
    found = match(expected["as"], actual, where) if "as" in expected else Match()
    found.bound[expected["$bind"]] = actual
    return found


def _length(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    try:
        length = len(base64.b64decode(actual) if expected.get("octets") else actual)
    except (TypeError, binascii.Error):
        return Match([f"{where} is {_shown(actual)}, which has no length"])
    return match(expected["$length"], length, f"the length of {where}")


def _compared(key: str, fits: Callable[[float, float], bool]) -> Callable[[Mapping[str, Any], Any, str], Match]:
    def compare(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
        try:
            left, right = float(actual), float(expected[key])
        except (TypeError, ValueError):
            return Match([f"{where} is {_shown(actual)}, not a number"])
        return _found(fits(left, right), f"{where} is {_shown(actual)}, not {key} {expected[key]}")

    return compare


def _different(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    fits = actual is not ABSENT and not _same(expected["$ne"], actual)
    return _found(fits, f"{where} is {_shown(actual)}")


def _pattern(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    fits = isinstance(actual, str) and re.search(expected["$pattern"], actual) is not None
    return _found(fits, f"{where} is {_shown(actual)}, without {expected['$pattern']}")


def _contains(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    if not isinstance(actual, list):
        return Match([f"{where} is {_shown(actual)}, not a list"])
    found, left = Match(), list(actual)
    for wanted in expected["$contains"]:
        for index, given in enumerate(left):
            one = match(wanted, given, where)
            if not one.problems:
                found.take(one)
                del left[index]
                break
        else:
            found.problems.append(f"{where} has no entry like {_shown(wanted)}: {_shown(actual)}")
    return found


def _excludes(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    if not isinstance(actual, list):
        return Match([f"{where} is {_shown(actual)}, not a list"])
    unwanted = [given for given in actual if not match(expected["$excludes"], given, where).problems]
    return _found(not unwanted, f"{where} has {_shown(unwanted)}")


def _each(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    return (
        _match_list([expected["$each"]] * len(actual), actual, where)
        if isinstance(actual, list)
        else _match_list([], actual, where)
    )


def _all(expected: Mapping[str, Any], actual: Any, where: str) -> Match:
    found = Match()
    for one in expected["$all"]:
        found.take(match(one, actual, where))
    return found


_MATCHERS: dict[str, Callable[[Mapping[str, Any], Any, str], Match]] = {
    "$any": _any,
    "$absent": _absent,
    "$bind": _bind,
    "$length": _length,
    "$gt": _compared("$gt", lambda left, right: left > right),
    "$ge": _compared("$ge", lambda left, right: left >= right),
    "$lt": _compared("$lt", lambda left, right: left < right),
    "$le": _compared("$le", lambda left, right: left <= right),
    "$ne": _different,
    "$pattern": _pattern,
    "$contains": _contains,
    "$excludes": _excludes,
    "$each": _each,
    "$all": _all,
}
