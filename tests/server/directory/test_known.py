"""The cache of recipients: only found ones, for a limited time, and none from before a change."""

from __future__ import annotations

import threading

import pytest

from restante_server.directory.known import KnownRecipients
from restante_server.directory.lookup import AddressKind, Resolution

ALICE = Resolution("alice@example.test", AddressKind.LOCAL, 1, 1)
BOB = Resolution("bob@example.test", AddressKind.LOCAL, 2, 2)
TEAM = Resolution("team@example.test", AddressKind.ALIAS, targets=(ALICE, BOB))
NOBODY = Resolution("nobody@example.test", AddressKind.UNKNOWN, problem="no such recipient")
BROKEN = Resolution("broken@example.test", AddressKind.ALIAS, targets=(ALICE, NOBODY))
ABROAD = Resolution("frank@example.net", AddressKind.FOREIGN)


def test_what_was_found_is_kept_and_what_was_not_is_asked_again() -> None:
    recipients = KnownRecipients()
    for found in (ALICE, TEAM, NOBODY, BROKEN, ABROAD):
        recipients.keep(recipients.generation, found)
    kept = [found for found in (ALICE, TEAM, NOBODY, BROKEN, ABROAD) if recipients.get(found.address) is not None]
    assert kept == [ALICE, TEAM]


def test_an_answer_from_before_a_change_is_not_kept() -> None:
    recipients = KnownRecipients()
    generation = recipients.generation
    recipients.keep(generation, BOB)
    recipients.forget()
    recipients.keep(generation, ALICE)
    assert recipients.get(ALICE.address) is None
    assert recipients.get(BOB.address) is None


def test_whether_it_is_open_stays_known_until_somebody_looks_again() -> None:
    recipients = KnownRecipients()
    for given, expected in ((None, False), (True, True), (None, True), (False, False)):
        recipients.keep(0, ALICE, open=given)
        found = recipients.get(ALICE.address)
        assert found is not None
        assert found.open is expected


def test_what_is_open_is_so_no_longer_than_when_somebody_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 100.0
    monkeypatch.setattr("time.monotonic", lambda: moment)
    recipients = KnownRecipients(seconds=2.0)
    recipients.keep(0, ALICE, open=True)
    moment = 101.9
    recipients.keep(0, ALICE)
    assert recipients.is_open(ALICE.address)
    moment = 102.0
    assert not recipients.is_open(ALICE.address)
    recipients.keep(0, ALICE)
    assert recipients.get(ALICE.address) is not None
    assert not recipients.is_open(ALICE.address)


def test_a_change_amid_the_keeping_of_an_answer_empties_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    recipients = KnownRecipients()
    lane = threading.Thread(target=recipients.forget)

    def meanwhile() -> float:
        if lane.ident is None:
            lane.start()
            lane.join(0.2)
        return 100.0

    monkeypatch.setattr("time.monotonic", meanwhile)
    recipients.keep(recipients.generation, ALICE)
    lane.join()
    assert recipients.get(ALICE.address) is None


def test_entries_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 100.0
    monkeypatch.setattr("time.monotonic", lambda: moment)
    recipients = KnownRecipients(seconds=2.0)
    recipients.keep(0, ALICE)
    moment = 101.9
    assert recipients.get(ALICE.address) is not None
    moment = 102.0
    assert recipients.get(ALICE.address) is None


def test_the_oldest_make_room_and_an_alias_counts_with_its_targets() -> None:
    recipients = KnownRecipients(most=4)
    recipients.keep(0, ALICE)
    recipients.keep(0, TEAM)
    assert recipients.get(ALICE.address) is not None
    recipients.keep(0, BOB)
    assert recipients.get(ALICE.address) is None
    assert recipients.get(TEAM.address) is not None
    recipients.keep(0, ALICE)
    assert recipients.get(TEAM.address) is None
    assert recipients.get(BOB.address) is not None
