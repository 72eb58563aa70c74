"""References lead to existing sections, files and links, and to RFCs in the index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.contract.references import DESIGN, Tree, complaints

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


# --- Dangling references ----------------------------------------------------------------------------------------------

TREE = Tree.of(ROOT)


def test_no_reference_leads_nowhere() -> None:
    assert list(complaints(TREE)) == []


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("server/x.py", "x = 1  # behaviour 42\n", "“behaviour 42” stands in no text of this repository"),
        ("server/x.py", "# as\n# behaviours\n# 2, 3 say\n", "“behaviours 2” stands in no text of this repository"),
        ("server/x.py", '"""Nothing is lost (promise 3)."""\n', "“promise 3” stands in no text of this repository"),
        ("server/x.py", '"""See DESIGN."""\n', "“DESIGN” stands in no text of this repository"),
        ("protos/x.proto", "int64 x = 1; // See issue 12.\n", "“issue 12” stands in no text of this repository"),
        ("clients/x.go", "// As finding 4 says.\n", "“finding 4” stands in no text of this repository"),
        ("tests/transcripts/x.txt", "# Smaller before login.   section 6\n", "“section 6” of which RFC?"),
        ("server/x.py", 'x = 1\n"""As docs/design.md "Speed" says."""\n', f"{DESIGN} has no section “Speed”"),
        ("server/x.py", '# docs/design.md "Reads" and "Speed"\n', f"{DESIGN} has no section “Speed”"),
        (
            "server/x.py",
            'class A:\n    def b(self):\n        """See api/nobody.py."""\n',
            "there is no file api/nobody.py",
        ),
        ("docs/x.md", "`nobody.py` has the rules.\n", "there is no file nobody.py"),
        ("docs/x.md", "Look into `store/nobody`.\n", "there is no store/nobody"),
        ("server/x.py", "# restante_server.store.nobody does it\n", "there is no restante_server.store.nobody"),
        ("server/x.py", "# restante_server.store.runs.Nobody\n", "there is no restante_server.store.runs.Nobody"),
        ("server/x.py", "# sets travel as `store.runs.Nobody`\n", "there is no store.runs.Nobody"),
        ("docs/x.md", "[this](nobody.md)\n", "the link nobody.md leads to no file"),
        ("docs/x.md", "[this](design.md#nobody)\n", "the link design.md#nobody leads to no heading"),
        ("docs/x.md", "# One\n\n[this](#two)\n", "the link #two leads to no heading"),
    ],
)
def test_the_check_sees_what_leads_nowhere(name: str, text: str, complaint: str) -> None:
    tree = Tree(ROOT, TREE.files | {name}, {name: text})
    assert f"{name}: {complaint}" in list(complaints(tree, [name]))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("server/x.py", "behaviour = 42  # as sections 3 and 4 of RFC 9051 say\nx = 'behaviour 42, DESIGN'\n"),
        ("server/x.py", '"""See docs/design.md "Read your writes", store/runs.py and `store.runs.JsonRows`."""\n'),
        ("server/x.py", "# restante_server.store.runs.JsonRows, restante_server.store, runs.py\n"),
        ("docs/x.md", "# One two\n\n[a](#one-two) [b](design.md#reads) [c](../protos) [d](https://example.org/x.md)\n"),
    ],
)
def test_the_check_lets_pass_what_is_there(name: str, text: str) -> None:
    tree = Tree(ROOT, TREE.files | {name}, {name: text})
    assert list(complaints(tree, [name])) == []
