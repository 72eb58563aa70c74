"""The RFCs that the code cites and the list of those that are obeyed agree, both ways."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
INDEX = ROOT / "tests" / "rfc" / "index.txt"
CODE = ("common", "server", "gateways", "clients/python/restante")
CITED = re.compile(r"RFC (\d{3,5})\b")
STATUSES = ("yes", "part", "used")


class Entry(NamedTuple):
    """One line of the index."""

    number: int
    name: str
    status: str
    places: tuple[str, ...]


def entries(text: str) -> list[Entry]:
    """The index, parsed. Raises ValueError for a line of another form."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            number, name, status, places = (word.strip() for word in line.split("|"))
            found.append(Entry(int(number), name, status, tuple(places.split())))
    return found


def cited(place: Path) -> set[int]:
    """The RFCs cited in a file, or in the files below a directory."""
    files = [place] if place.is_file() else place.rglob("*.py")
    texts = (path.read_text() for path in files if "v1" not in path.parts)
    return {int(number) for text in texts for number in CITED.findall(text)}


ENTRIES = entries(INDEX.read_text())


def test_every_rfc_that_the_code_cites_is_in_the_index() -> None:
    missing = {number for part in CODE for number in cited(ROOT / part)} - {entry.number for entry in ENTRIES}
    assert not missing


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: str(entry.number))
def test_every_entry_says_where_and_is_cited_there(entry: Entry) -> None:
    assert entry.places
    for place in entry.places:
        assert (ROOT / place).exists(), place
        assert entry.number in cited(ROOT / place), f"{place} does not cite RFC {entry.number}"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: str(entry.number))
def test_every_entry_has_a_status(entry: Entry) -> None:
    assert re.split(r"[,:]", entry.status)[0] in STATUSES


def test_no_rfc_stands_twice() -> None:
    numbers = [entry.number for entry in ENTRIES]
    assert len(numbers) == len(set(numbers))


def test_the_checks_can_fail(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("# RFC 9999 1.2\n")
    assert cited(tmp_path) == {9999}
    with pytest.raises(ValueError, match="unpack"):
        entries("1 | two | three\n")
