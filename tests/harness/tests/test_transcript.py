"""The format of transcripts: reading, matching, framing, rewriting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.transcript import (
    Do,
    Expect,
    Framing,
    Heard,
    Send,
    Transcript,
    TranscriptError,
    choose,
    encode,
    fill,
    match,
    parse,
    rewritten,
    visible,
)

HEADER = "# A sample.   RFC 9051 7.5.1\n"


def read(tmp_path: Path, body: str, header: str = HEADER) -> Transcript:
    path = tmp_path / "imap" / "sample.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode(header + body))
    return parse(path)


def test_a_transcript_is_read_step_by_step(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "given: 3 messages\ngiven: and a folder\nsessions: B smtp, Cc pop3\n\n"
        "C: a1 NOOP   # a comment\n# another\nS: a1 OK  ...\nB C| x\nB S: 250-a\nB S| 250 b\nCc -- closed\nC:\n",
    )
    assert found.given == "3 messages\nand a folder"
    assert found.protocols == {"B": "smtp", "Cc": "pop3"}
    assert found.steps == [
        Send("A", "a1 NOOP\r\n", 6),
        Expect("A", "a1 OK  ...", 8, 8),
        Send("B", "x\r\n", 9),
        Expect("B", "250-a\r\n250 b", 10, 11),
        Do("Cc", "closed", 12),
        Send("A", "\r\n", 13),
    ]


@pytest.mark.parametrize(
    ("line", "octets"),
    [
        ("C~ abc", b"abc"),
        (r"C~ a\r\nb\\c\td\x00\xff\xc3\xa9", b"a\r\nb\\c\td\x00\xff\xc3\xa9"),
        ("C~ kept \\", b"kept "),
        (r"C: a1 STORE 1 FLAGS (\Deleted) \xff", b"a1 STORE 1 FLAGS (\\Deleted) \\xff\r\n"),
        ("C: grün", "grün\r\n".encode()),
        ("C: #1 a # b", b"#1 a # b\r\n"),
    ],
)
def test_client_lines_are_these_octets(tmp_path: Path, line: str, octets: bytes) -> None:
    (step, _) = read(tmp_path, f"{line}\nS: ...\n").steps
    assert isinstance(step, Send)
    assert encode(fill(step.text, {})) == octets


def test_octets_that_are_not_utf8_survive_a_transcript(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(HEADER.encode() + b"C: gr\xfcn\nS: ...\n")
    (step, _) = parse(path).steps
    assert isinstance(step, Send)
    assert encode(step.text) == b"gr\xfcn\r\n"
    assert visible(step.text) == "gr\\xfcn\n"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("C a1 NOOP\nS: x\n", ":2: neither a line of a conversation"),
        ("S| x\n", ":2: this line continues no answer"),
        ("A S: x\nB S| x\n", ":3: this line continues no answer"),
        ("S: x\n-- explode\n", ":3: 'explode' is none of close"),
        ("C: a1 NOOP\n", ":1: nothing is expected"),
    ],
)
def test_a_line_that_means_nothing_is_an_error_with_its_number(tmp_path: Path, body: str, reason: str) -> None:
    with pytest.raises(TranscriptError) as raised:
        read(tmp_path, body)
    assert reason in str(raised.value)


def test_a_transcript_without_an_rfc_in_its_header_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match="names no RFC"):
        read(tmp_path, "S: x   # RFC 9051 here is too late\n", header="# A sample.\n")


@pytest.mark.parametrize(
    ("expected", "actual", "bound"),
    [
        ("a1 OK done", "a1 OK done", {}),
        ("a1 OK done", "a1 OK done.", None),
        ("a1 OK ...", "a1 OK anything at all", {}),
        ("a1 OK ...", "a1 OK", None),
        ("a1 OK ...", "a1 OK x\r\ny", None),
        ("* 3 FETCH (UID $last)", "* 3 FETCH (UID 17)", {"last": "17"}),
        ("* 3 FETCH (UID $last)", "* 3 FETCH (UID )", None),
        ("$a $a", "x x", {"a": "x"}),
        ("$a $a", "x y", None),
        ("$known", "value", {}),
        ("$known", "other", None),
        ("$$known $Junk .*", "$known $Junk .*", {}),
        ("* 1 FETCH (BODY[] {5}\r\nhello)", "* 1 FETCH (BODY[] {5}\r\nhello)", {}),
        ("* 1 FETCH ...\r\n...", "* 1 FETCH (BODY[] {5}\r\na\r\nbc)", {}),
        ("+OK ...\r\n...", "+OK 2\r\na\r\n.", {}),
        ("+OK ...\r\nb...\r\n.", "+OK 2\r\na\r\n.", None),
    ],
)
def test_an_answer_matches(expected: str, actual: str, bound: dict[str, str] | None) -> None:
    assert match(expected, actual, {"known": "value"}) == bound


def test_names_are_filled_into_client_lines() -> None:
    assert fill("a1 UID FETCH $uid:$$ ($Junk)", {"uid": "7"}) == "a1 UID FETCH 7:$ ($Junk)"
    with pytest.raises(KeyError):
        fill("$uid", {})


def expects(*texts: str) -> list[Expect]:
    return [Expect("A", text, number, number) for number, text in enumerate(texts, 1)]


def test_untagged_answers_match_in_any_order_the_definite_first() -> None:
    waiting = expects("* ...", "* 2 FETCH (UID $uid)", "* 2 FETCH (UID 5)")
    assert choose(waiting, "* 2 FETCH (UID 5)", {}) == (waiting[2], {})
    assert choose(waiting, "* 2 FETCH (UID 6)", {}) == (waiting[1], {"uid": "6"})
    assert choose(waiting[1:], "* FLAGS ()", {}) is None


def test_answers_that_change_numbers_keep_their_order() -> None:
    waiting = expects("* 3 EXPUNGE", "* FLAGS ()", "* 1 EXPUNGE", "* 2 EXISTS")
    assert choose(waiting, "* 1 EXPUNGE", {}) is None
    assert choose(waiting, "* 2 EXISTS", {}) is None
    assert choose(waiting, "* FLAGS ()", {}) == (waiting[1], {})
    assert choose(waiting, "* 3 EXPUNGE", {}) == (waiting[0], {})


@pytest.mark.parametrize(
    ("protocol", "octets", "answers"),
    [
        ("imap", b"* OK hi\r\na1 OK\r\n", ["* OK hi", "a1 OK"]),
        ("imaps", b"* 1 FETCH (BODY[] {4}\r\na\r\nb FLAGS ())\r\n* 2", ["* 1 FETCH (BODY[] {4}\r\na\r\nb FLAGS ())"]),
        ("imap", b"* 1 FETCH (A {0}\r\n B {2}\r\n\r\n)\r\n", ["* 1 FETCH (A {0}\r\n B {2}\r\n\r\n)"]),
        ("imap", b"* 1 FETCH (A {9}\r\nabc)\r\n", []),
        ("smtp", b"250-a\r\n250-b\r\n250 c\r\n221 bye\r\n", ["250-a\r\n250-b\r\n250 c", "221 bye"]),
        ("submission", b"250-a\r\n250-b\r\n", []),
        ("smtp", b"250\r\n", ["250"]),
        ("pop3", b"+OK 1\r\n-ERR\r\n", ["+OK 1", "-ERR"]),
    ],
)
def test_what_a_server_sends_is_cut_into_answers(protocol: str, octets: bytes, answers: list[str]) -> None:
    framing = Framing(protocol)
    found: list[str] = []
    for octet in octets:
        framing.buffer.append(octet)
        while (answer := framing.next_answer(several=False)) is not None:
            found.append(answer)
    assert found == answers


@pytest.mark.parametrize(
    ("octets", "answer"),
    [
        (b"+OK\r\na\r\n..b\r\n.\r\n", "+OK\r\na\r\n..b\r\n."),
        (b"+OK\r\n.\r\n", "+OK\r\n."),
        (b"-ERR no\r\n", "-ERR no"),
        (b"+OK\r\na\r\n", None),
    ],
)
def test_a_pop3_answer_goes_on_to_the_lone_dot_where_that_is_expected(octets: bytes, answer: str | None) -> None:
    framing = Framing("pop3")
    framing.buffer += octets
    assert framing.next_answer(several=True) == answer


def test_a_protocol_without_framing_is_refused() -> None:
    with pytest.raises(ValueError, match="gopher"):
        Framing("gopher")


def test_rewriting_keeps_what_matched_and_records_the_rest(tmp_path: Path) -> None:
    body = (
        "A C: a1 X\n# why\nA S: * 1 FETCH (UID $u)   # kept\nA S: * gone\nA S: a1 OK ...\nA C: a2 Y\nA S: a2 NO ...\n"
    )
    found = read(tmp_path, body)
    _, one, gone, done, _, no = [step for step in found.steps if isinstance(step, Expect | Send)]
    assert isinstance(one, Expect) and isinstance(gone, Expect)
    assert isinstance(done, Expect) and isinstance(no, Expect)
    heard: list[tuple[list[Expect], Heard]] = [
        ([one, gone, done], [(one, "* 1 FETCH (UID 3)"), (None, "* 2 FETCH ($Junk {1}\r\nx)"), (done, "a1 OK done")]),
        ([no], [(None, "a2 OK fine")]),
    ]
    assert rewritten(found, heard) == (
        HEADER + "A C: a1 X\n# why\nA S: * 1 FETCH (UID $u)   # kept\nA S: * 2 FETCH ($$Junk {1}\nA S| x)\n"
        "A S: a1 OK ...\nA C: a2 Y\nA S: a2 OK fine\n"
    )
    assert rewritten(found, [([one, gone, done], [(gone, ""), (one, ""), (done, "")])]) == HEADER + body
