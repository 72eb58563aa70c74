r"""The format of transcripts: conversations with a server as they appear on the wire. Without I/O.

    # A message may not vanish while numbers are in use.   RFC 9051 7.5.1
    given: 3 messages in INBOX, the second \Deleted; sessions A and B have it selected
    A C: a1 EXPUNGE
    A S: * 2 EXPUNGE
    A S: a1 OK ...
    B C: b1 FETCH 3 (UID)              # numbers may not shift under a FETCH
    B S: * 3 FETCH (UID $last)
    B S: b1 OK ...

**Header.** Comments first, which must name an `RFC` with section, or a section of `docs/design.md`. Then, as often as
needed: the test gets `given: text` unchanged, and prepares mailboxes and sessions by it; `sessions: A imap, B smtp`
names the protocol of each session when it is not the folder's name (tests/transcripts/imap/...: all speak imap).

**Lines.** The client of session A sends `A C: text`; the server answers `A S: text`. A single session needs no letter.
The player adds and removes CRLF. A session connects at its first line, and the transcript has the server's greeting as
an answer. Adjacent client lines are sent in one piece, for pipelining.

| line       | meaning                                                                                               |
|------------|-------------------------------------------------------------------------------------------------------|
| `C: text`  | a line                                                                                                |
| `C| text`  | a line of data (message text, the inside of a literal): sent in the same way, marked for the reader   |
| `C~ text`  | octets, without a line end; `\r \n \t \\ \xHH` stand for octets, a last `\` keeps the space before it |
| `S: text`  | an answer, or its first line                                                                          |
| `S| text`  | its next line: the inside of an IMAP literal and what follows; an SMTP or POP3 reply of several lines |
| `-- verb`  | `starttls`, `close`, `shutdown` (half-close), `closed` (by the server), `silent` (no answer comes)    |

A comment starts with `#` at the start of a line, or with two spaces and `# ` after a line.

**An answer** is a response with its literals in IMAP, and a reply with all its lines in SMTP. In POP3 it is a line, or
with following `S|` lines all lines up to the lone dot, which is written too.

**Matching.** `...` at the end is the rest of the line; an `S|` line of `...` alone is the rest of the answer. `$name`
(small letters, digits, _) binds one or more characters at its first match; later matches must be equal, in all
sessions, and client lines may use it. `$$` is a dollar sign. IMAP's untagged responses match in any order up to the
next other response, but EXPUNGE, VANISHED and EXISTS keep their order among themselves, since each changes the meaning
of the next.

Text is UTF-8; other octets are surrogates in it, and are shown as `\xHH`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

LINE = re.compile(
    r"(?:(?P<session>[A-Z][A-Za-z0-9]*) )?(?:(?P<side>[CS])(?P<mark>[:|~])|(?P<verb>--))(?: (?P<text>.*))?"
)
COMMENT = re.compile(r"\s{2,}# .*$")
NAME = re.compile(r"\$(\$|[a-z][a-z0-9_]*)")
ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|([rnt\\]))")
ESCAPED = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}
VERBS = {"starttls", "close", "shutdown", "closed", "silent"}
NUMBERING = re.compile(r"\* (?:\d+ (?:EXPUNGE|EXISTS)|VANISHED )", re.IGNORECASE)


class TranscriptError(Exception):
    """A transcript that cannot be read; the text has file, line and reason."""


@dataclass(frozen=True)
class Send:
    """Octets that the client of a session sends; `text` may have names to fill in."""

    session: str
    text: str
    number: int


@dataclass(frozen=True)
class Expect:
    """An answer of the server: its lines joined by CRLF, without the last CRLF. `end`: the number of its last line."""

    session: str
    text: str
    number: int
    end: int

    @property
    def several(self) -> bool:
        return "\r\n" in self.text

    @property
    def untagged(self) -> bool:
        return self.text.startswith("* ")


@dataclass(frozen=True)
class Do:
    """One of VERBS."""

    session: str
    verb: str
    number: int


Step = Send | Expect | Do


@dataclass
class Transcript:
    """A parsed file. `lines` are the file's, for rewriting; step and line numbers count from 1."""

    path: Path
    lines: list[str]
    given: str
    protocols: dict[str, str]
    steps: list[Step] = field(default_factory=list)


def decode(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def visible(text: str) -> str:
    """Printable text: octets that are not UTF-8 as `\\xHH`, CRLF as a new line."""
    plain = text.replace("\r\n", "\n")
    return "".join(f"\\x{ord(char) - 0xDC00:02x}" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in plain)


def _unescape(text: str) -> str:
    kept = text[:-1] if text.endswith(" \\") else text
    # An octet above 0x7F becomes a surrogate.
    return ESCAPE.sub(lambda m: decode(bytes([int(m[1], 16)])) if m[1] else ESCAPED[m[2]], kept)


def parse(path: Path) -> Transcript:
    """Read a transcript. Raises TranscriptError."""
    found = Transcript(path, decode(path.read_bytes()).split("\n"), "", {})
    given: list[str] = []
    header: list[str] = []
    for number, line in enumerate(found.lines, 1):
        if line.startswith("#"):
            if not found.steps and not given:
                header.append(line)
        elif line.startswith("given:"):
            given.append(line.removeprefix("given:").strip())
        elif line.startswith("sessions:"):
            pairs = (pair.split() for pair in line.removeprefix("sessions:").split(","))
            found.protocols |= dict(pairs)
        elif line.strip():
            _add(found, line, number)
    found.given = "\n".join(given)
    if not re.search(r"RFC \d+|docs/design\.md", "\n".join(header)):
        raise TranscriptError(f"{path}:1: the header names no RFC")
    if not any(isinstance(step, Expect | Do) for step in found.steps):
        raise TranscriptError(f"{path}:1: nothing is expected")
    return found


def _add(found: Transcript, line: str, number: int) -> None:
    match = LINE.fullmatch(COMMENT.sub("", line))
    if match is None:
        raise TranscriptError(f"{found.path}:{number}: neither a line of a conversation nor a comment: {line}")
    session, mark, text = match["session"] or "A", match["mark"], match["text"] or ""
    if match["verb"]:
        if text not in VERBS:
            raise TranscriptError(f"{found.path}:{number}: {text!r} is none of {', '.join(sorted(VERBS))}")
        found.steps.append(Do(session, text, number))
    elif match["side"] == "C":
        found.steps.append(Send(session, _unescape(text) if mark == "~" else text + "\r\n", number))
    elif mark == ":":
        found.steps.append(Expect(session, text, number, number))
    else:
        last = found.steps[-1] if found.steps else None
        if mark == "~" or not isinstance(last, Expect) or last.session != session:
            raise TranscriptError(f"{found.path}:{number}: this line continues no answer: {line}")
        found.steps[-1] = Expect(session, f"{last.text}\r\n{text}", last.number, number)


def fill(text: str, names: dict[str, str]) -> str:
    """A client's text with every `$name` replaced. Raises KeyError for an unbound name."""
    return NAME.sub(lambda match: "$" if match[1] == "$" else names[match[1]], text)


def match(expected: str, actual: str, names: dict[str, str]) -> dict[str, str] | None:
    """The names newly bound by the match of an answer; None when it does not match."""
    lines = expected.split("\r\n")
    parts: list[str] = []
    seen: set[str] = set()
    for index, line in enumerate(lines):
        if line == "..." and index == len(lines) - 1 and index:
            parts.append(r"(?s:.*)")
            continue
        rest = line.endswith("...")
        parts.append(_pattern(line[:-3] if rest else line, names, seen) + (r"[^\r\n]*" if rest else ""))
    found = re.fullmatch("\r\n".join(parts), actual)
    return None if found is None else found.groupdict()


def _pattern(line: str, names: dict[str, str], seen: set[str]) -> str:
    def one(name: str) -> str:
        if name == "$":
            return re.escape("$")
        if name in names:
            return re.escape(names[name])
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return rf"(?P<{name}>[^\r\n]+?)"

    pieces = NAME.split(line)  # text, name, text, name, ..., text
    return "".join(one(piece) if index % 2 else re.escape(piece) for index, piece in enumerate(pieces))


def choose(waiting: list[Expect], actual: str, names: dict[str, str]) -> tuple[Expect, dict[str, str]] | None:
    """The expected untagged answer that `actual` matches, the most specific first, with the names it binds."""
    candidates = waiting
    if NUMBERING.match(actual):
        candidates = [step for step in waiting if NUMBERING.match(step.text)][:1]
        # A line with a name or `...` for its number does not count as one of the ordered kinds.
        candidates += [step for step in waiting if not NUMBERING.match(step.text)]
    for step in sorted(candidates, key=lambda step: -len(NAME.sub("", step.text.removesuffix("...")))):
        if (bound := match(step.text, actual, names)) is not None:
            return step, bound
    return None


Heard = list[tuple[Expect | None, str]]
"""Answers in their order of arrival, each with the step that it matched."""


def rewritten(transcript: Transcript, heard: list[tuple[list[Expect], Heard]]) -> str:
    """The file's text with the server's answers in place of the expectations that did not match.

    `heard` has groups of adjacent expectations. A group with all its matches stays unchanged; in another, matched lines
    stay, in the order of the answers, and so do comments.
    """
    lines = list(transcript.lines)
    for expected, answers in reversed(heard):
        if {id(step) for step, _ in answers} == {id(step) for step in expected}:
            continue
        starts = [expected[0].number - 1, *(step.end for step in expected)]
        blocks = {id(step): lines[start : step.end] for start, step in zip(starts, expected, strict=False)}
        lettered = re.match(r"[A-Z]\w* ", lines[expected[0].number - 1]) is not None
        letter = expected[0].session if lettered else None
        new = [line for step, text in answers for line in (blocks[id(step)] if step else _written(letter, text))]
        matched = {id(step) for step, _ in answers}
        lost = [block for key, block in blocks.items() if key not in matched]
        new += [line for block in lost for line in block if line.startswith("#")]
        lines[starts[0] : expected[-1].end] = new
    return "\n".join(lines)


def _written(session: str | None, answer: str) -> list[str]:
    """The transcript lines of a server's answer (`session` None: without a letter)."""
    letter = "" if session is None else f"{session} "
    first, *rest = answer.replace("$", "$$").split("\r\n")
    return [f"{letter}S: {first}", *(f"{letter}S| {line}".rstrip() for line in rest)]


# --- framing: octets to answers ---------------------------------------------------------------------------------------


class Framing:
    """Cuts the octets of a server into answers, by the rules of `protocol`: imap, pop3, smtp and their variants."""

    def __init__(self, protocol: str) -> None:
        if protocol.startswith("imap"):
            self._end = self._imap
        elif protocol.startswith(("smtp", "submission", "lmtp")):
            self._end = self._smtp
        elif protocol.startswith("pop3"):
            self._end = self._line
        else:
            raise ValueError(f"no framing for {protocol!r}")
        self._many = self._dot if protocol.startswith("pop3") else self._end
        self.buffer = bytearray()

    def next_answer(self, *, several: bool) -> str | None:
        """The next whole answer, or None. `several`: in POP3, an answer up to a lone dot if it starts with +OK."""
        end = (self._many if several else self._end)()
        if end is None:
            return None
        answer = decode(bytes(self.buffer[: end - 2]))
        del self.buffer[:end]
        return answer

    def _line(self, start: int = 0) -> int | None:
        found = self.buffer.find(b"\r\n", start)
        return None if found < 0 else found + 2

    def _imap(self) -> int | None:
        end: int | None = 0
        while end is not None:
            begin, end = end, self._line(end)
            if end is None:
                return None
            literal = re.search(rb"\{(\d+)\}\r\n$", self.buffer[begin:end])
            if literal is None:
                return end
            end += int(literal[1])
            if len(self.buffer) < end:
                return None
        return None

    def _smtp(self) -> int | None:
        begin, end = 0, self._line()
        while end is not None and self.buffer[begin + 3 : begin + 4] == b"-":
            begin, end = end, self._line(end)
        return end

    def _dot(self) -> int | None:
        first = self._line()
        if first is None or not self.buffer.startswith(b"+OK"):
            return first
        if self.buffer.startswith(b".\r\n", first):
            return first + 3
        found = self.buffer.find(b"\r\n.\r\n", first - 2)
        return None if found < 0 else found + 5
