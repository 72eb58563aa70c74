"""docs/api agrees with the protos, has no dangling link, and explains every reason."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from protos import reference
from protos.generate import ROOT, sources, write_image
from protos.reference import ANYWHERE, COMES_WITH, Contract, comments, pages, sentence, stem

DOCS = ROOT / "docs"
_LINK = re.compile(r"\]\(([^)\s]*)\)")
_ANCHOR = re.compile(r'<a id="(\w+)"></a>')


@pytest.fixture(scope="module")
def contract() -> Contract:
    with tempfile.TemporaryDirectory() as scratch:
        write_image(Path(scratch) / "image")
        return Contract(FileDescriptorSet.FromString((Path(scratch) / "image").read_bytes()).file)


def test_the_pages_are_fresh() -> None:
    assert reference.stale() == []


def test_a_page_that_is_stale_missing_or_too_many_is_noticed(tmp_path: Path) -> None:
    for name, text in pages().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert reference.stale(tmp_path) == []
    (tmp_path / "folder.md").write_text("by hand")
    (tmp_path / "sync.md").unlink()
    (tmp_path / "gone.md").write_text("of a proto that was removed")
    assert reference.stale(tmp_path) == ["folder.md", "gone.md", "sync.md"]


@pytest.mark.parametrize("page", sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")))
def test_every_link_leads_somewhere(page: str) -> None:
    path = DOCS / page
    for link in _LINK.findall(path.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in _ANCHOR.findall(target.read_text(encoding="utf-8")), link


def test_there_is_a_page_for_each_proto_with_all_its_parts(contract: Contract) -> None:
    assert len(contract.files) == len(sources()) > 0
    for file in contract.files:
        anchors = _ANCHOR.findall((DOCS / f"api/{stem(file)}.md").read_text(encoding="utf-8"))
        parts = [message.name for message in file.message_type] + [enum.name for enum in file.enum_type]
        parts += [method.name for service in file.service for method in service.method]
        assert sorted(set(anchors) - set(contract.reasons)) == sorted(parts)


def test_every_reason_is_named_where_it_may_come(contract: Contract) -> None:
    """By an RPC, by a field that carries reasons, or as a reason of a field or of any call."""
    said = " ".join(text for file in contract.files if stem(file) != "errors" for text in comments(file).values())
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", said))
    named |= {*ANYWHERE, *(reason for brought in COMES_WITH.values() for reason in brought)}
    assert set(contract.reasons) - named == set()


def test_what_an_rpc_names_as_its_errors_are_reasons(contract: Contract) -> None:
    for file in contract.files:
        said = comments(file)
        for index, service in enumerate(file.service):
            for number, method in enumerate(service.method):
                _, found, errors = said[6, index, 2, number].partition("Errors:")
                words = set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", errors))
                assert words <= set(contract.reasons), method.name
                assert words or not found, method.name


def test_what_comes_with_a_field_is_a_reason(contract: Contract) -> None:
    assert {*ANYWHERE, *(reason for brought in COMES_WITH.values() for reason in brought)} <= set(contract.reasons)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Gets one folder. Errors: FOLDER_NOT_FOUND.", "Gets one folder."),
        ("Claims messages (RFC 3501 2.3.2): the boundary moves.", "Claims messages (RFC 3501 2.3.2)."),
        ("Takes one step (RFC 4422). The answer", "Takes one step (RFC 4422)."),
        ("No end", "No end."),
    ],
)
def test_the_first_sentence_stands_for_an_rpc(text: str, first: str) -> None:
    assert sentence(text) == first
