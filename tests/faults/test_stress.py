"""The short form of `python -m tests.faults.session_stress`, and tests that its checks find wrong answers."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.faults.imap_wire import fetched
from tests.faults.kill_rounds import check, running
from tests.faults.session_stress import Session, stress
from tests.faults.stress_model import Folder

SECONDS = 20.0
OCTETS = b"Subject: stress k\r\nX-Stress-Id: k\r\n\r\n0123456789abcdef\r\n"


@pytest.mark.faults
@pytest.mark.slow
def test_no_answer_is_wrong_while_fifteen_sessions_change_one_folder() -> None:
    with running("") as (_, base, directory):
        outcome = asyncio.run(stress(base, directory, 15, SECONDS, seed=1))
        findings = asyncio.run(check(directory))
    assert (outcome["wrong"], findings) == (0, []), outcome
    assert outcome["asked_of_removed"], outcome
    by_command = outcome["by_command"]
    assert isinstance(by_command, dict)
    assert by_command.keys() >= {"FETCH", "UID FETCH", "STORE", "EXPUNGE", "COPY", "MOVE", "APPEND", "IDLE", "SEARCH"}


def heard(*responses: bytes, holding: bool = False) -> set[str]:
    """The faults found in responses to a session that knows messages 1 and 2; message 1 has been removed."""
    folder = Folder()
    for uid in (1, 2):
        folder.appended(uid, b"k", OCTETS, [b"\\Seen"] if uid == 1 else [], 1.0, 2.0, by=0)
    folder.begin_removal([1], 3.0)
    session = Session(0, folder, 0, random.Random(1))
    for response in (b"* 2 EXISTS", b"* 1 FETCH (UID 1)", b"* 2 FETCH (UID 2)"):
        session.hear(response)
    assert not folder.wrong
    session.holding = holding
    for response in responses:
        session.hear(response)
    return set(folder.wrong)


@pytest.mark.parametrize(
    ("responses", "holding", "wrong"),
    [
        ([b"* 1 EXPUNGE", b"* 1 FETCH (UID 2 FLAGS ())"], False, set()),
        ([b"* 1 FETCH (FLAGS (\\Seen \\Recent))", b"* 2 FETCH (FLAGS ())"], True, set()),
        ([b"* 1 FETCH (FLAGS ())"], True, {"flag that was never so"}),
        ([b"* 2 FETCH (FLAGS ($Red))"], True, {"flag that was never so"}),
        ([b"* 1 EXPUNGE"], True, {"EXPUNGE that shifts numbers in use"}),
        ([b"* 2 EXPUNGE"], False, {"EXPUNGE of what nobody removed"}),
        ([b"* 3 EXPUNGE"], False, {"EXPUNGE of no message"}),
        ([b"* 1 EXISTS"], False, {"EXISTS that falls"}),
        ([b"* 3 FETCH (UID 3)"], False, {"FETCH of no message"}),
        ([b"* 1 FETCH (UID 2)"], True, {"number that means another message"}),
        ([b"* 3 EXISTS", b"* 3 FETCH (UID 1)"], False, {"UIDs that do not ascend"}),
        ([b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(OCTETS), OCTETS)], True, set()),
        ([b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (len(OCTETS) - 1, OCTETS[:-1])], True, {"octets that differ"}),
        ([b"* 1 FETCH (RFC822.SIZE 7)"], True, {"size that differs"}),
        ([b'* 1 FETCH (ENVELOPE (NIL "stress k" NIL))', b"* 1 FETCH (BODY[TEXT]<7> {2}\r\n89)"], True,
         {"octets of a range that differ"}),
        ([b'* 2 FETCH (ENVELOPE (NIL "another" NIL))'], True, {"envelope that differs"}),
    ],
)  # fmt: skip
def test_the_judge_finds_what_is_wrong(responses: list[bytes], holding: bool, wrong: set[str]) -> None:
    assert heard(*responses, holding=holding) == wrong


def test_a_flag_is_judged_by_what_was_acknowledged_before() -> None:
    folder = Folder()
    folder.appended(1, b"k", OCTETS, [], 1.0, 2.0, by=0)
    flag = b"\\Flagged"
    begun = folder.begin_store([1], {flag: True}, 3.0, by=0)

    def may_be(value: bool, since: float) -> bool:
        return folder.may_be(1, flag, value, since, time.monotonic(), by=1)

    assert may_be(True, 3.5) and may_be(False, 3.5), "it is under way"
    folder.end_store(begun, 4.0)
    assert may_be(True, 5.0) and not may_be(False, 5.0)
    assert may_be(False, 3.5), "it was asked before"
    folder.begin_removal([1], 6.0)
    folder.end_store(folder.begin_store([1], {flag: False}, 7.0, by=0), 8.0)
    assert may_be(True, 9.0) and may_be(False, 9.0), "nobody knows which came first"


def test_responses_are_read_with_their_literals() -> None:
    octets = b"* 7 FETCH (UID 9 FLAGS (\\Seen $a) BODY[TEXT]<7> {3}\r\n)x)"
    octets += b' ENVELOPE ("a \\"b" (("n" NIL "l" "d")) NIL) MODSEQ (5))'
    number, items = fetched(octets) or (0, {})
    assert (number, items[b"FLAGS"], items[b"BODY[TEXT]<7>"]) == (7, [b"\\Seen", b"$a"], b")x)")
    assert items[b"ENVELOPE"][0] == b'a \\"b' and items[b"MODSEQ"] == [b"5"]
    assert fetched(b"* 7 EXPUNGE") is None
