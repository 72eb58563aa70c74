"""APPEND and FETCH keep real and difficult mail unchanged, renderings included (RFC 3501 6.4.5, 7.4.2)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from restante_gateways.imap.grammar.parser import Parser
from restante_mail.canonical import canonicalise
from tests.gateways.imap.conftest import Running
from tests.gateways.imap.stage import Client
from tests.harness.requirements import missing

pytestmark = pytest.mark.end_to_end

CORPUS = Path(__file__).resolve().parents[4] / "shared" / "corpus"

NAME = re.compile(rb"[A-Z0-9.]+(?:\[[^]]*\](?:<\d+>)?)?")
MULTIPART = (
    b"From: a@example.test\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\npreamble\r\n"
    b"--outer\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nfirst\r\n"
    b"--outer\r\nContent-Type: message/rfc822\r\n\r\nSubject: inside\r\nFrom: b@example.test\r\n\r\nembedded\r\n"
    b"--outer\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n"
    b"--inner\r\n\r\nplain\r\n--inner\r\nContent-Type: text/html\r\n\r\n<p>\r\n--inner--\r\n"
    b"--outer--\r\n"
)
NESTED = b"".join(
    b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (depth, depth) for depth in range(150)
)
HARD = [
    b"Subject: no body and no blank line\r\n",
    b"\r\nno header\r\n",
    b"\r\n",
    b"no header at all\r\n",
    b"Subject: \xc3\xa9\xff raw 8-bit\r\nFrom: \xe9 <a@example.test>\r\n\r\n\xff\xfe\r\n",
    b"X-Long: " + b"y" * 100_000 + b"\r\nSubject: after it\r\n\r\ntext\r\n",
    b"".join(b"X-%d: v\r\n" % number for number in range(5_000)) + b"\r\ntext\r\n",
    b"Content-Type: multipart/mixed; boundary=gone\r\n\r\n--gone\r\n\r\nno final boundary\r\n",
    NESTED + b"\r\ndeep\r\n",
    MULTIPART,
]


async def append(client: Client, content: bytes) -> None:
    await client.ok(b"APPEND INBOX {%d+}\r\n%b" % (len(content), content))


async def fetch(client: Client, what: bytes) -> dict[bytes, bytes]:
    """The items of a FETCH of one message, by name. Every octet of the response is parsed, as by a client."""
    client.writer.write(b"f " + what + b"\r\n")
    octets = b""
    while not (line := await client.line()).startswith(b"f "):
        octets += line
        while (literal := re.search(rb"\{(\d+)\}$", octets)) is not None:
            octets += b"\r\n" + await client.reader.readexactly(int(literal[1])) + await client.line()
        octets += b"\r\n"
    assert line.startswith(b"f OK"), line
    p = Parser(octets.removesuffix(b"\r\n"), at=octets.index(b"(") + 1)
    items = {}
    while True:
        name = p.match(NAME, "item")[0]
        items[name] = value(p.sp())
        if p.accept(b")"):
            break
        p.sp()
    p.end()
    return items


def value(p: Parser) -> bytes:
    """One value: a string's octets, NIL, a number, or the octets of a balanced list."""
    if p.sees(b'"') or p.sees(b"{"):
        return p.string()
    begin = p.at
    if not p.accept(b"("):
        return p.atom()
    while not p.accept(b")"):
        value(p)
        p.accept(b" ")
    return p.octets[begin : p.at]


async def comes_out(client: Client, number: int, content: bytes) -> dict[bytes, bytes]:
    wanted = b"(RFC822.SIZE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] ENVELOPE BODY BODYSTRUCTURE)"
    items = await fetch(client, b"FETCH %d %b" % (number, wanted))
    assert items[b"BODY[]"] == content
    assert items[b"BODY[HEADER]"] + items[b"BODY[TEXT]"] == content
    assert int(items[b"RFC822.SIZE"]) == len(content)
    assert items[b"ENVELOPE"].startswith(b"(")
    return items


async def test_the_corpus_round_trips(running: Running) -> None:
    files = sorted(path for path in CORPUS.rglob("*.msg"))
    if not files:
        missing("the corpus of real mail is not beside the repository")
    client = await Client.open(running, "INBOX")
    contents = [path.read_bytes() for path in files]
    for content in contents:
        await append(client, content)
    for number, (path, content) in enumerate(zip(files, contents, strict=True), start=1):
        items = await comes_out(client, number, canonicalise(content).octets)
        assert items, path


@pytest.mark.parametrize("number", range(len(HARD)))
async def test_hard_mail_round_trips(running: Running, number: int) -> None:
    client = await Client.open(running, "INBOX")
    await append(client, HARD[number])
    await comes_out(client, 1, HARD[number])


async def test_a_large_attachment_round_trips(running: Running) -> None:
    client = await Client.open(running, "INBOX")
    content = b"Subject: large\r\nContent-Type: application/octet-stream\r\n\r\n" + b"0123456789abcdef\r\n" * 33_000
    await append(client, content)
    await comes_out(client, 1, content)
    items = await fetch(client, b"FETCH 1 (BODY.PEEK[]<100000.30> BODY.PEEK[1]<0.5>)")
    assert items == {b"BODY[]<100000>": content[100_000:100_030], b"BODY[1]<0>": b"01234"}


async def test_parts_are_found_by_number(running: Running) -> None:  # RFC 3501 6.4.5
    client = await Client.open(running, "INBOX")
    await append(client, MULTIPART)
    sections = {
        b"BODY[1]": b"first",
        b"BODY[1.MIME]": b"Content-Type: text/plain; charset=utf-8\r\n\r\n",
        b"BODY[2.HEADER]": b"Subject: inside\r\nFrom: b@example.test\r\n\r\n",
        b"BODY[2.TEXT]": b"embedded",
        b"BODY[2.1]": b"embedded",
        b"BODY[2.HEADER.FIELDS (FROM)]": b"From: b@example.test\r\n\r\n",
        b"BODY[3.1]": b"plain",
        b"BODY[3.2]": b"<p>",
        b"BODY[4]": b"NIL",
        b"BODY[1.HEADER]": b"NIL",
    }
    asked = b" ".join(name.replace(b"BODY", b"BODY.PEEK") for name in sections)
    assert await fetch(client, b"FETCH 1 (" + asked + b")") == sections


async def test_nul_is_refused(running: Running) -> None:  # RFC 3501 4.3.1
    client = await Client.open(running, "INBOX")
    for content in (b"a\0b\r\n", b"a\0b\r\n" + b"x" * 550_000):
        assert (await client.status(b"APPEND INBOX {%d+}\r\n%b" % (len(content), content))).startswith(b"NO [CANNOT]")
    assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]


async def test_bare_line_ends_are_made_canonical(running: Running) -> None:
    client = await Client.open(running, "INBOX")
    await append(client, b"Subject: x\n\nbare\rends")
    await comes_out(client, 1, b"Subject: x\r\n\r\nbare\r\nends")
