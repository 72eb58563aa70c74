"""Part trees: numbers, texts and limits, and the same parts as IMAP and the standard library see (RFC 9051 7.5.2)."""

from __future__ import annotations

import email
import email.policy
import tracemalloc
from collections.abc import Callable, Iterator
from email.message import EmailMessage, Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restante.v1.batch_pb2 import ExecuteResponse
from restante.v1.message_pb2 import MessagePart
from restante_mail.canonical import canonicalise
from restante_mail.header.words import decode_parameters, decode_text
from restante_mail.mime import parts
from restante_mail.mime.decoders import Decoding, decoded
from restante_mail.mime.facts import scan
from restante_mail.mime.sections import Kind, find_part, section
from restante_server.api.services import part_trees
from tests.harness import body_structure
from tests.mail.material import cpython_corpus, crlf, nested_multiparts, shared_corpus
from tests.mail.mime.test_corpus import DIFFERENT

CORPORA = [pytest.param(shared_corpus, id="shared"), pytest.param(cpython_corpus, id="cpython")]
Corpus = Callable[[], dict[str, bytes]]


def tree_of(content: bytes) -> MessagePart:
    """The tree of a content, from its stored form."""
    root = parts.decode(parts.encode(scan(content).tree))
    return part_trees.tree(root, lambda offset, length: content[offset : offset + length])


def walk(tree: MessagePart) -> Iterator[MessagePart]:
    yield tree
    for part in tree.parts:
        yield from walk(part)


def own(tree: MessagePart) -> Iterator[MessagePart]:
    """The parts without those of embedded messages."""
    yield tree
    if tree.media_type.startswith("multipart/"):
        for part in tree.parts:
            yield from own(part)


def shape(tree: MessagePart) -> list[tuple[str, str]]:
    return [(".".join(map(str, part.part)), part.media_type) for part in walk(tree)]


def test_a_message_without_multipart_is_part_1() -> None:  # RFC 9051 6.4.5.1
    (part,) = walk(tree_of(crlf("Content-Type: TEXT/Plain; charset=UTF-8\n\nhello\n")))
    assert (list(part.part), part.media_type, part.charset, part.transfer_encoding) == (
        [1],
        "text/plain",
        "UTF-8",
        "7bit",
    )
    assert (part.size_octets, part.attachment, dict(part.parameters)) == (7, False, {"charset": "UTF-8"})


def test_a_message_that_declares_nothing_is_text() -> None:
    assert tree_of(b"\r\nhi") == MessagePart(part=[1], media_type="text/plain", transfer_encoding="7bit", size_octets=2)


LETTER = crlf(
    "Subject: outer\nContent-Type: multipart/mixed; boundary=o\n\n--o\n"
    "Content-Type: multipart/alternative; boundary=a\n\n--a\n\nplain\n--a\nContent-Type: text/html\n\n<p>x\n--a--\n"
    "--o\nContent-Type: application/pdf\nContent-Transfer-Encoding: BASE64\nContent-ID: <pdf@example.org>\n"
    "Content-Description: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nContent-Language: de, en\nContent-Location: a/b.pdf\n"
    "Content-Disposition: inline; filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf\n\nYWJj\n"
    "--o\nContent-Type: message/rfc822\n\n"
    "From: Bob <bob@example.org>\nSubject: =?utf-8?q?inn=C3=A4r?=\nReferences: <1@x> <2@x>\n"
    "Content-Type: multipart/mixed; boundary=i\n\n--i\n\ntext\n"
    "--i\nContent-Type: image/png; name=x.png\n\npng\n--i--\n"
    "--o\nContent-Type: message/rfc822\n\nSubject: plain\n\ntext\n--o--\n"
)


def test_parts_are_numbered_as_in_imap() -> None:  # RFC 9051 6.4.5.1
    assert shape(tree_of(LETTER)) == [
        ("", "multipart/mixed"),
        ("1", "multipart/alternative"),
        ("1.1", "text/plain"),
        ("1.2", "text/html"),
        ("2", "application/pdf"),
        ("3", "message/rfc822"),
        ("3", "multipart/mixed"),
        ("3.1", "text/plain"),
        ("3.2", "image/png"),
        ("4", "message/rfc822"),
        ("4.1", "text/plain"),
    ]


def test_texts_are_decoded() -> None:
    (part,) = [part for part in walk(tree_of(LETTER)) if list(part.part) == [2]]
    assert part == MessagePart(
        part=[2],
        media_type="application/pdf",
        transfer_encoding="base64",
        size_octets=4,
        content_id="pdf@example.org",
        content_description="Grüße",
        disposition="inline",
        file_name="Grüße.pdf",
        attachment=True,
        languages=["de", "en"],
        location="a/b.pdf",
    )


def test_an_embedded_message_has_its_summary_and_its_own_attachments() -> None:
    first, second = [part for part in walk(tree_of(LETTER)) if part.media_type == "message/rfc822"]
    assert (first.attachment, first.summary.subject, list(first.summary.references)) == (
        True,
        "innär",
        ["<1@x>", "<2@x>"],
    )
    assert [author.address for author in first.summary.authors] == ["bob@example.org"]
    assert [part.file_name for part in walk(first.parts[0]) if part.attachment] == ["x.png"]
    assert (second.summary.subject, len(second.parts)) == ("plain", 1)
    assert scan(LETTER).attachment_count == sum(part.attachment for part in own(tree_of(LETTER))) == 3


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("filename*=utf-8''Gr%C3%BC%C3%9Fe.txt", "Grüße.txt"),  # RFC 2231 4
        ('filename*0="one "; filename*1=name.txt', "one name.txt"),  # RFC 2231 3
        ("filename*0*=iso-8859-1''%e4; filename*1=b.txt", "äb.txt"),
        ("filename==?utf-8?q?Gr=C3=BC=C3=9Fe=2Etxt?=", "Grüße.txt"),  # RFC 2047 5 forbids it, programs do it
        ("filename==?no-such-charset?q?x?=", "x"),
        ("filename==?windows-1252?q?=80.txt?=", "€.txt"),
        ("filename==?iso-8859-1?q?=80.txt?=", "€.txt"),
        ("filename=\xfc.tx", "ü.tx"),
        ("filename*=utf-8''100%2541.txt", "100%41.txt"),  # decoded once
        ("filename*=no-such-charset''x", "x"),
        ("size=1", "fallback.txt"),
    ],
)
def test_file_names_are_decoded_as_far_as_they_can_be(parameters: str, name: str) -> None:
    header = f"Content-Type: text/plain; name=fallback.txt\nContent-Disposition: attachment; {parameters}\n\nx"
    assert tree_of(crlf(header)).file_name == name


# The same as others see -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_tree_has_the_parts_of_its_body_structure(corpus: Corpus) -> None:
    for name, octets in corpus().items():
        content = canonicalise(octets).octets
        facts = scan(content)
        found = list(walk(tree_of(content)))
        theirs = body_structure.read(facts.body_structure)
        assert [tuple(part.part) for part in found] == [part.number for part in theirs], name
        for part, other in zip(found, theirs, strict=True):
            assert part.media_type == other.media_type, name
            parameters = decode_parameters(other.parameters)
            if not part.charset and part.media_type == "text/plain":  # BODYSTRUCTURE shows the default of RFC 2046
                assert parameters.pop("charset") == "us-ascii", name
            assert dict(part.parameters) == parameters, name
            if other.media_type.startswith("multipart/"):
                continue
            assert (part.transfer_encoding, part.size_octets) == (other.encoding, other.size_octets), name
            assert part.disposition == other.disposition, name
            assert part.content_id == decode_text(other.content_id.strip("<> \t")), name
            assert part.content_description == decode_text(other.description), name
            assert tuple(part.languages) == other.languages, name
            assert part.location == decode_text(other.location), name


@pytest.mark.parametrize("corpus", CORPORA)
def test_each_part_is_read_by_its_number_and_attachments_are_those_counted(corpus: Corpus) -> None:
    for name, octets in corpus().items():
        content = canonicalise(octets).octets
        facts = scan(content)
        tree = tree_of(content)
        assert sum(part.attachment for part in own(tree)) == facts.attachment_count, name
        for part in walk(tree):
            kind = Kind.TEXT if part.media_type.startswith("multipart/") else Kind.WHOLE
            number = tuple(part.part)
            if kind is Kind.TEXT and number:  # a multipart in a multipart has no TEXT
                inside = find_part(facts.tree, number)
                assert inside is not None, name
                kind = Kind.TEXT if inside.is_message else Kind.WHOLE
            place = section(facts.tree, number, kind)
            assert place is not None, name
            assert place[1] == part.size_octets, name


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_standard_library_sees_the_same_types_charsets_and_names(corpus: Corpus) -> None:
    compared, different = 0, []
    for name, octets in corpus().items():
        if name in DIFFERENT:
            continue
        content = canonicalise(octets).octets
        theirs = list(_theirs(email.message_from_bytes(content)))
        ours = [(part.media_type, part.charset.lower()) for part in walk(tree_of(content))]
        compared += len(ours)
        if ours != theirs:
            different.append((name, ours, theirs))
    assert compared > 50
    assert different == []


def _theirs(message: Message) -> Iterator[tuple[str, str]]:
    kind = message.get_content_type()
    yield kind, message.get_content_charset() or ""
    if kind.startswith("multipart/") and not message.is_multipart():
        yield "text/plain", ""  # the server reads a multipart without parts as one text
    opaque = message.get_content_maintype() == "message" and kind != "message/rfc822"  # the library reads into these
    for part in [] if opaque or not message.is_multipart() else message.get_payload():
        assert isinstance(part, Message)
        yield from _theirs(part)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=30)


@st.composite
def letters(draw: st.DrawFn) -> tuple[bytes, list[bytes | str]]:
    """A multipart message, and what its leaves hold."""
    message = EmailMessage(policy=email.policy.SMTP)
    message["Subject"] = "drawn"
    leaves: list[bytes | str] = [draw(TEXTS)]
    message.set_content(leaves[0], cte=draw(st.sampled_from(["base64", "quoted-printable", "8bit"])))
    if draw(st.booleans()):
        leaves.append(f"<p>{draw(TEXTS)}")
        message.add_alternative(leaves[1], subtype="html", cte=draw(st.sampled_from(["base64", "quoted-printable"])))
    for at in range(draw(st.integers(0, 3))):
        leaves.append(draw(st.binary(max_size=300)))
        message.add_attachment(leaves[-1], maintype="application", subtype="octet-stream", filename=f"ä{at}.bin")
    for at, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary(f"=_boundary_{at}")  # else the library draws one at random
    return message.as_bytes(), leaves


@settings(deadline=None)
@given(letters())
def test_what_a_program_has_put_into_a_message_is_read_back(letter: tuple[bytes, list[bytes | str]]) -> None:
    octets, leaves = letter
    content = canonicalise(octets).octets
    tree, stored = tree_of(content), scan(content).tree
    found = [part for part in walk(tree) if not part.media_type.startswith("multipart/")]
    assert [part.attachment for part in found] == [isinstance(leaf, bytes) for leaf in leaves]
    for part, leaf in zip(found, leaves, strict=True):
        place = find_part(stored, part.part)
        assert place is not None
        form = Decoding.TRANSFER if isinstance(leaf, bytes) else Decoding.TEXT
        read = b"".join(decoded(content, place, form))
        assert read == (leaf if isinstance(leaf, bytes) else f"{leaf}\r\n".encode())
        assert part.file_name.startswith("ä") == isinstance(leaf, bytes)


# Limits ---------------------------------------------------------------------------------------------------------------


def carried(tree: MessagePart) -> ExecuteResponse:
    """The tree in the response that nests it deepest, as a client decodes it."""
    response = ExecuteResponse()
    response.results.add().batch_get_messages.rows.parts.append(tree)
    return ExecuteResponse.FromString(response.SerializeToString())


def test_a_deep_tree_ends_where_every_decoder_can_still_read_it() -> None:
    tree = tree_of(nested_multiparts(150))
    assert carried(tree).results[0].batch_get_messages.rows.parts[0] == tree
    found = list(walk(tree))
    assert len(found) == part_trees.MOST_LEVELS
    assert found[-1].media_type == "application/octet-stream"
    assert {part.media_type for part in found[:-1]} == {"multipart/mixed"}
    assert found[-1].size_octets > 0


def test_embedded_messages_nest_as_deep() -> None:
    tree = tree_of(b"Content-Type: message/rfc822\r\nSubject: x\r\n\r\n" * 99 + b"\r\nend")
    assert carried(tree).results[0].batch_get_messages.rows.parts[0] == tree
    assert len(list(walk(tree))) == part_trees.MOST_LEVELS


def test_the_texts_of_a_tree_are_bounded() -> None:
    part = b'--b\r\nContent-Type: text/plain; name="' + b"\xff" * 30_000 + b'"\r\n\r\nx\r\n'
    tree = tree_of(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 60 + b"--b--\r\n")
    assert tree.ByteSize() < part_trees.TEXT_OCTETS + 10_000
    assert len(tree.parts) == 60
    assert tree.parts[0].file_name
    last = tree.parts[-1]
    assert (last.file_name, list(last.part), last.media_type, last.size_octets) == ("", [60], "text/plain", 1)


def test_summaries_of_embedded_messages_are_bounded() -> None:
    part = b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: " + b"x" * 60_000 + b"\r\n\r\nx\r\n"
    content = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 20 + b"--b--\r\n"
    read = 0

    def reader(offset: int, length: int) -> bytes:
        nonlocal read
        read += length
        return content[offset : offset + length]

    tree = part_trees.tree(scan(content).tree, reader)
    have = [part.HasField("summary") for part in tree.parts]
    assert have == sorted(have, reverse=True)
    assert 1 <= sum(have) <= 5
    assert read <= part_trees.EMBEDDED_HEADER_OCTETS + 1
    assert tree.ByteSize() < part_trees.TEXT_OCTETS + 10_000


def test_the_largest_tree_fits_a_response() -> None:
    part = b"--b\r\nContent-Type: application/x-" + b"y" * 300 + b"\r\n\r\nx\r\n"
    content = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 12_000 + b"--b--\r\n"
    tracemalloc.start()
    try:
        tree = tree_of(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(tree.parts) <= 10_000
    assert tree.ByteSize() < 4 << 20  # gRPC's default limit of a response
    assert peak < 64 << 20
