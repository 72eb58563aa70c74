"""Mailboxes and the maildrop lease."""

from __future__ import annotations

import pytest

from restante.errors import LeaseLost, MailboxNotFound, MaildropInUse
from restante_server.db import clock
from restante_server.directory import rights
from restante_server.store import changes, mailboxes
from restante_server.store.mailboxes import LEASE_MICROSECONDS
from tests.server.store.material import Box, make_box

MINE, THEIRS = b"m" * 16, b"t" * 16


async def test_facts_of_a_mailbox(box: Box) -> None:
    facts = await box.read(mailboxes.get)
    assert (facts.used_octets, facts.message_count, facts.quota_octets, facts.account_id) == (0, 0, None, 1)
    await box.write(mailboxes.set_quota, 5)
    await box.write(mailboxes.assign, 7)
    facts = await box.database.read(lambda tx: mailboxes.get(tx, rights.decide(tx, 7, box.id)))
    assert (facts.quota_octets, facts.account_id) == (5, 7)
    with pytest.raises(MailboxNotFound):
        await box.database.read(lambda tx: mailboxes.get(tx, rights.system(999)))


async def test_change_numbers_of_many(box: Box) -> None:
    other = await make_box(box.database)
    await other.fill(other.inbox, 1)
    found = await box.database.read(mailboxes.change_numbers, [box.id, other.id, 999])
    assert found == {box.id: 1, other.id: 2}


async def test_one_session_at_a_time_holds_the_maildrop(box: Box) -> None:
    until = await box.write(mailboxes.acquire_maildrop, MINE)
    now = await box.database.read(clock.now_microseconds)
    assert 0 < until - now <= LEASE_MICROSECONDS
    with pytest.raises(MaildropInUse):
        await box.write(mailboxes.acquire_maildrop, THEIRS)
    assert await box.write(mailboxes.renew_maildrop, MINE) >= until
    assert await box.write(mailboxes.release_maildrop, MINE)
    await box.write(mailboxes.acquire_maildrop, THEIRS)
    for lost in (mailboxes.renew_maildrop, mailboxes.release_maildrop):
        with pytest.raises(LeaseLost):
            await box.write(lost, MINE)


async def test_giving_back_twice_is_harmless(box: Box) -> None:
    await box.write(mailboxes.acquire_maildrop, MINE)
    assert await box.write(mailboxes.release_maildrop, MINE)
    assert not await box.write(mailboxes.release_maildrop, MINE)


async def test_a_lapsed_lease_is_lost_and_free_for_others(box: Box) -> None:
    def acquire(tx, place, lease, at):  # type: ignore[no-untyped-def]
        clock.use(tx, lambda _: at)
        return mailboxes.acquire_maildrop(tx, place, lease)

    def renew(tx, place, lease, at):  # type: ignore[no-untyped-def]
        clock.use(tx, lambda _: at)
        return mailboxes.renew_maildrop(tx, place, lease)

    until = await box.write(acquire, MINE, 1_000_000)
    assert until == 1_000_000 + LEASE_MICROSECONDS
    with pytest.raises(LeaseLost):
        await box.write(renew, MINE, until)
    await box.write(acquire, THEIRS, until)


async def test_change_numbers_rise_by_one(box: Box) -> None:
    before = await box.read(mailboxes.change_number)
    assert await box.write(changes.next_number) == before + 1
    with pytest.raises(MailboxNotFound):
        await box.database.read(lambda tx: mailboxes.change_number(tx, rights.system(999)))
