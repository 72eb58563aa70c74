"""The decision at delivery, as a pure function."""

from __future__ import annotations

import pytest

from restante_server.transport.inbound.dispose import FULL, GONE, OVERDRAWN, Inbox, dispose
from restante_server.transport.states import State

FOLDER = 7


@pytest.mark.parametrize(
    ("room_octets", "promised", "state", "reason"),
    [
        (None, False, State.DELIVERED, ""),
        (100, False, State.DELIVERED, ""),
        (100, True, State.DELIVERED, ""),
        (99, False, State.FAILED, FULL.reason),
        (99, True, State.DELIVERED, OVERDRAWN),
        (-5, False, State.FAILED, FULL.reason),
        (-5, True, State.DELIVERED, OVERDRAWN),
    ],
)
def test_room_decides_unless_the_recipient_was_accepted_at_rcpt(
    room_octets: int | None, promised: bool, state: State, reason: str
) -> None:
    end = dispose(100, Inbox(FOLDER, room_octets), promised=promised)
    assert (end.state, end.reason) == (state, reason)
    assert end.folder_id == (FOLDER if state is State.DELIVERED else 0)


@pytest.mark.parametrize("promised", [True, False])
def test_a_mailbox_that_is_gone_fails_whatever_was_promised(promised: bool) -> None:
    assert dispose(1, None, promised=promised) is GONE


def test_each_message_leaves_less_room_for_the_next() -> None:
    inbox = Inbox(FOLDER, 250)
    ends = []
    for _ in range(3):
        ends.append(dispose(100, inbox, promised=False).state)
        inbox = inbox.after(100)
    assert ends == [State.DELIVERED, State.DELIVERED, State.FAILED]
    assert Inbox(FOLDER, None).after(100).has_room(1 << 60)


@pytest.mark.parametrize(
    ("junk", "remark", "junk_folder", "room", "folder", "reason"),
    [
        (False, "", 9, None, FOLDER, ""),
        (False, "a sealer is trusted", 9, None, FOLDER, "a sealer is trusted"),
        (True, "DMARC fails", 9, None, 9, "delivered to Junk: DMARC fails"),
        (True, "DMARC fails", 0, None, FOLDER, "delivered to the Inbox for want of a Junk folder: DMARC fails"),
        (True, "DMARC fails", 9, 1, 9, f"{OVERDRAWN}; delivered to Junk: DMARC fails"),
    ],
)
def test_the_verdict_about_the_checks_chooses_the_folder(
    junk: bool, remark: str, junk_folder: int, room: int | None, folder: int, reason: str
) -> None:
    inbox = Inbox(FOLDER, room, junk_folder)
    end = dispose(100, inbox, promised=True, junk=junk, remark=remark)
    assert (end.state, end.folder_id, end.reason) == (State.DELIVERED, folder, reason)


def test_junk_needs_room_too() -> None:
    assert dispose(100, Inbox(FOLDER, 99, 9), promised=False, junk=True, remark="x") is FULL
