"""Rows read ahead: when, how many, and how much of them is kept."""

from __future__ import annotations

import pytest

from restante_gateways.imap.grammar.fetch import FetchFact, Layout, fetch_items
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.values import Cells, Rows
from restante_gateways.imap.view.ahead import ANSWER_OCTETS, MOST_MESSAGES, AheadBudget, ReadAhead

(WHOLE,) = fetch_items(Parser(b"BODY.PEEK[]"))
WANTED = Layout.of((FetchFact.UID, WHOLE))


def answer(first: int, count: int, octets: int = 2_000) -> Rows:
    """Rows of messages with consecutive UIDs."""
    uids = list(range(first, first + count))
    return Rows(uids, uids, sections=[Cells([b"%d" % uid for uid in uids], [octets] * count)])


class Client:
    """Fetches messages of a folder that has all UIDs, and counts the operations."""

    def __init__(self, ahead: ReadAhead, octets: int = 2_000) -> None:
        self.ahead, self.octets = ahead, octets
        self.read: list[int] = []  # messages in each operation

    def fetch(self, uid: int, wanted: Layout = WANTED) -> None:
        row = self.ahead.take(wanted, uid, uid + 1)
        if row is None:
            self.read.append(self.ahead.window())
            row = self.ahead.keep(uid, answer(uid, self.read[-1], self.octets))
        assert list(row.uids) == [uid] and row.sections[0].octets == [b"%d" % uid]


def test_messages_in_ascending_order_are_read_more_at_a_time() -> None:
    client = Client(ReadAhead(AheadBudget()))
    for uid in range(1, 101):
        client.fetch(uid)
    assert client.read[:3] == [1, 4, 12] and max(client.read) <= MOST_MESSAGES
    assert len(client.read) < 10


@pytest.mark.parametrize("uids", [(5, 4, 3, 2), (1, 3, 5, 7), (9, 2, 6, 1, 8)])
def test_in_another_order_each_message_is_read_alone(uids: tuple[int, ...]) -> None:
    client = Client(ReadAhead(AheadBudget()))
    for uid in uids:
        client.fetch(uid)
    assert client.read == [1] * len(uids)


def test_other_items_begin_anew() -> None:
    budget = AheadBudget()
    client = Client(ReadAhead(budget))
    for uid in (1, 2):
        client.fetch(uid)
    assert budget.octets > 0
    client.fetch(3, Layout.of((WHOLE,)))
    assert client.read == [1, 4, 1] and budget.octets == 0


def test_large_messages_are_read_alone() -> None:
    client = Client(ReadAhead(AheadBudget()), octets=ANSWER_OCTETS)
    for uid in range(1, 6):
        client.fetch(uid)
    assert client.read == [1] * 5


def test_after_an_answer_that_was_too_large_half_as_many_are_read() -> None:
    client = Client(ahead := ReadAhead(AheadBudget()))
    for uid in range(1, 18):
        client.fetch(uid)
    assert ahead.take(WANTED, 18, 19) is None
    before = ahead.window()
    ahead.too_large()
    assert before > 4 and ahead.window() == before // 2
    for _ in range(8):
        ahead.too_large()
    assert ahead.window() == 1


def test_a_message_missing_in_the_answer_leaves_the_others() -> None:
    client = Client(ahead := ReadAhead(AheadBudget()))
    client.fetch(1)
    assert ahead.take(WANTED, 2, 3) is None
    assert not ahead.keep(2, answer(3, 3)).uids
    client.fetch(3)
    assert client.read == [1]


def test_what_is_kept_is_bounded_for_the_process() -> None:
    budget = AheadBudget(most_octets=20_000)
    clients = [Client(ReadAhead(budget)) for _ in range(4)]
    for client in clients:
        client.fetch(1)
        client.fetch(2)  # keeps three messages of 2,000 octets
        assert 0 < budget.octets <= 20_000
    for client in reversed(clients):
        client.fetch(3)
    assert [len(client.read) for client in clients] == [3, 3, 2, 2], "the first two lost their rows"


def test_a_closed_folder_keeps_nothing() -> None:
    client = Client(ahead := ReadAhead(budget := AheadBudget()))
    client.fetch(1)
    client.fetch(2)
    ahead.forget()
    assert budget.octets == 0
