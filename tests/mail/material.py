"""Messages for tests of the scanner: the shared corpus, CPython's, and some made here."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from tests.harness.requirements import missing

CORPUS = Path(__file__).parents[2] / ".." / "shared" / "corpus"  # beside the repository


@cache
def shared_corpus() -> dict[str, bytes]:
    """{file name: octets} of the shared corpus; the test is skipped without the corpus."""
    found = {path.name: path.read_bytes() for path in sorted(CORPUS.glob("*/*.msg"))}
    if not found:
        missing("the shared corpus (../shared/corpus beside the repository) is not there")
    return found


@cache
def cpython_corpus() -> dict[str, bytes]:
    """The messages of CPython's tests of its email package; the test is skipped when the interpreter has none."""
    spec = importlib.util.find_spec("test.test_email")
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    found = {path.name: path.read_bytes() for path in sorted(folder.glob("msg_*.txt"))} if folder else {}
    if not found:
        missing("this interpreter has no test.test_email.data")
    return found


def crlf(text: str) -> bytes:
    """The octets of a message written with LF line ends, one octet a character."""
    return text.replace("\n", "\r\n").encode("latin-1")


def nested_multiparts(levels: int) -> bytes:
    """Nested multiparts, each with a different boundary, never closed."""
    parts = [f"Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n" for level in range(levels)]
    return "".join(parts).encode() + b"Content-Type: text/plain\r\n\r\ninnermost\r\n"
