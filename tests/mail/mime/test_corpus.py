"""Real and difficult mail: nothing raises, the sections cover every octet, and the standard library's parser (compat32)
finds the same parts, except for a list of deliberate differences."""

from __future__ import annotations

import email
import email.message
from collections.abc import Callable

import pytest

from restante_mail.canonical import canonicalise
from restante_mail.mime.decoders import decoded
from restante_mail.mime.facts import scan
from restante_mail.mime.parts import Part, decode, encode
from restante_mail.mime.scanner import parse
from restante_mail.mime.sections import Kind, section
from restante_mail.mime.text import text_chunks
from tests.mail.material import cpython_corpus, shared_corpus
from tests.mail.mime.test_structure import balanced

CORPORA = [pytest.param(shared_corpus, id="shared"), pytest.param(cpython_corpus, id="cpython")]
Corpus = Callable[[], dict[str, bytes]]

# A header ends only at the first blank line (RFC 5322 2.1). The library ends it before a line that is no
# field, so that it sees text where we see a header with junk, or with a separator that is not blank.
HEADER_ENDS_ELSEWHERE = (
    "basic-plain-with-bad-header-separator.msg hdr-fakeout.msg malformedHeader-nocrlfcrlf.msg "
    "malformedHeader-noheader.msg malformedHeaderStartsBody-nocrlfcrlf.msg malformedHeaderStartsBody-noheader.msg "
    "obsolete.msg very-long-boundary.msg very-very-long-boundary.msg weird-boundary.msg msg_19.txt msg_35.txt "
    "msg_38.txt msg_47.txt multi-2gifs-base64.msg bad-newlines-multiple-parts-base64.msg "
    "base64encoded-rfc822message-nested.msg base64encoded-rfc822message.msg"
)
# A boundary with a space that is not quoted: the library reads the first word of it and finds no part.
BOUNDARY_OF_TWO_WORDS = "multi-badnames.msg multi-clen.msg multi-digest.msg multi-simple.msg"
# Nothing between a delimiter and the closing one: the library takes the epilogue for the part.
ONLY_DELIMITERS = "multipartemptypart.msg"
# Nested multiparts that share a boundary, as a program of 2001 made them: the library ends the inner one at once.
SHARED_BOUNDARY = "msg_15.txt msg_39.txt"
DIFFERENT = frozenset(f"{HEADER_ENDS_ELSEWHERE} {BOUNDARY_OF_TWO_WORDS} {ONLY_DELIMITERS} {SHARED_BOUNDARY}".split())


@pytest.mark.parametrize("corpus", CORPORA)
def test_every_message_is_read_and_its_sections_add_up(corpus: Corpus) -> None:
    for name, octets in corpus().items():
        content = canonicalise(octets).octets
        facts = scan(content)
        tree = decode(encode(facts.tree))
        assert tree == facts.tree, name
        header, text = section(tree, (), Kind.HEADER), section(tree, (), Kind.TEXT)
        assert header is not None, name
        assert text is not None, name
        assert (header[0], sum(header), sum(text)) == (0, text[0], len(content)), name
        assert balanced(facts.envelope), name
        assert balanced(facts.body_structure), name
        assert balanced(facts.body), name
        for part in tree.walk():
            assert part.lines in (0, content[part.body_start : part.body_end].count(b"\r\n")), name
        assert len(facts.preview) <= 200, name
        assert not set("\r\n\t") & set(facts.preview), name
        "".join(text_chunks(content, tree))


@pytest.mark.parametrize("corpus", CORPORA)
def test_the_standard_library_sees_the_same_parts(corpus: Corpus) -> None:
    different = []
    for name, octets in corpus().items():
        content = canonicalise(octets).octets
        ours = _ours(content, parse(content))
        theirs = _theirs(email.message_from_bytes(content))
        if (ours != theirs) != (name in DIFFERENT):
            different.append((name, ours, theirs))
    assert different == []


def _ours(content: bytes, part: Part) -> object:
    """The shape of a tree: kinds, and the octets of texts without the line ends at their end, because the library
    removes one more when a final boundary is missing."""
    if part.is_multipart and _without_parts(part):
        return [part.media_type, b""]
    if part.children:
        return [part.media_type, *(_ours(content, child) for child in part.children)]
    is_text = part.media_type.startswith("text/")
    return [part.media_type, b"".join(decoded(content, part)).rstrip() if is_text else b""]


def _without_parts(part: Part) -> bool:
    """Whether the part is read as one text part; the library has a multipart with a string payload there."""
    first = part.children[0]
    return len(part.children) == 1 and first.header_start == first.body_start == part.body_start


def _theirs(message: email.message.Message) -> object:
    payload, kind = message.get_payload(), message.get_content_type()
    opaque = message.get_content_maintype() == "message" and kind != "message/rfc822"  # the library reads into these
    if isinstance(payload, list) and not opaque:
        return [kind, *(_theirs(child) for child in payload if isinstance(child, email.message.Message))]
    if not kind.startswith("text/"):
        return [kind, b""]
    octets = message.get_payload(decode=True)
    assert isinstance(octets, bytes)
    return [kind, octets.rstrip()]
