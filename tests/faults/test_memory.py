"""A message of 50 MB passes through every process in bounded memory (docs/design.md "Promises")."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator

import pytest

from tests.faults.wire import House, Memory, Wire, house

pytestmark = [pytest.mark.faults, pytest.mark.slow]

MIB = 1 << 20
SIZE = 50_000_000  # octets, about; the default limit is 52,428,800
GATEWAY_MIB = 24  # the most that a gateway may grow by, for any message: measured 1 to 12
CORE_MIB = 24  # the most that the core may grow by: measured 0 to 5


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("memory")) as made:
        yield made


def pieces(kind: str) -> Iterator[bytes]:
    """The message, a mebibyte at a time: one long text, or one attachment in base64. No line begins with a dot."""
    yield b"From: someone@example.org\r\nTo: bob@example.test\r\nSubject: " + kind.encode() + b"\r\n"
    if kind == "attachment":
        yield (
            b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=edge\r\n\r\n--edge\r\n\r\nsee there\r\n"
            b"--edge\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        )
    else:
        yield b"\r\n"
    line = secrets.token_hex(37).encode()[:74] + b"\r\n"
    for _ in range(SIZE // (len(line) * 1_000)):
        yield line * 1_000
    if kind == "attachment":
        yield b"--edge--\r\n"


def send(wire: Wire, kind: str) -> tuple[int, str]:
    """Send the message; returns its octets and its digest."""
    digest, octets = hashlib.sha256(), 0
    for piece in list(pieces(kind)):
        wire.send(piece)
        digest.update(piece)
        octets += len(piece)
    return octets, digest.hexdigest()


def receive(wire: Wire, octets: int, sent_octets: int) -> str:
    """Read `octets`, and return the digest of the last `sent_octets` of them."""
    digest, left = hashlib.sha256(), octets
    while left:
        piece = wire.read(min(left, MIB))
        assert piece, "the connection ended early"
        before = max(0, left - sent_octets)  # the fields added at delivery come first
        digest.update(piece[before:])
        left -= len(piece)
    return digest.hexdigest()


@pytest.mark.parametrize("kind", ["text", "attachment"])
def test_fifty_megabytes_pass_through_in_bounded_memory(home: House, kind: str) -> None:
    everything = {name: home.processes()[name] for name in ("core", "smtp", "imap", "pop3")}
    figures: dict[str, dict[str, int]] = {}
    with home.wire("smtp") as smtp, Memory(everything) as memory:
        for command in (b"MAIL FROM:<someone@example.org> SIZE=%d" % SIZE, b"RCPT TO:<bob@example.test>", b"DATA"):
            assert smtp.smtp(command)[:1] in b"23"
        octets, digest = send(smtp, kind)
        assert smtp.smtp(b".").startswith(b"250")
    figures["smtp in"] = memory.grown()
    with home.imap("carol", "Archive") as imap, Memory(everything) as memory:
        assert imap.imap(b"APPEND Archive {%d}" % octets)[-1].startswith(b"+")
        assert send(imap, kind)[0] == octets
        imap.send(b"\r\n")
        assert imap.until(b"x")[-1].startswith(b"x OK")
    figures["append"] = memory.grown()
    with home.imap("bob", "INBOX") as imap, Memory(everything) as memory:
        imap.send(b"f FETCH * BODY.PEEK[]\r\n")
        literal = imap.line()
        total = int(literal.rpartition(b"{")[2].partition(b"}")[0])
        assert receive(imap, total, octets) == digest
        assert imap.until(b"f")[-1].startswith(b"f OK")
    figures["fetch"] = memory.grown()
    with home.pop3("bob") as pop3, Memory(everything) as memory:
        number = int(pop3.pop3(b"STAT").split()[1])
        assert pop3.pop3(b"RETR %d" % number).startswith(b"+OK")
        assert receive(pop3, total, octets) == digest
        assert pop3.line() == b".\r\n"
    figures["retr"] = memory.grown()
    print(json.dumps({"workload": f"{SIZE} octets, {kind}", "grown_mib": figures}))
    assert all(grown["core"] < CORE_MIB for grown in figures.values()), figures
    assert all(grown[name] < GATEWAY_MIB for grown in figures.values() for name in ("smtp", "imap", "pop3")), figures
