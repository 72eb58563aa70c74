"""Tokens: small, sealed, and invalid at every core within seconds of their session's end."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection

from restante.errors import ExchangeInvalid, InvalidSession, SessionExpired, SessionRevoked
from restante.v1.session_pb2 import Scope
from restante_server.accounts import lifecycle
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import accounts, exchanges, keys, states
from restante_server.directory.keys import KeyRing, NotSealed
from restante_server.directory.service import Directory
from restante_server.directory.sessions import Issued
from tests.server.directory.material import NOW, SECOND, SETTINGS

LIFE = SETTINGS.sessions.token_seconds * SECOND
DAY = 24 * 3_600 * SECOND


async def begin(directory: Directory, address: str = "alice@example.test", identity: str = "imap") -> Issued:
    account = await directory.db.read(accounts.get, address)
    state = await directory.db.read(states.fetch, account.account_id)
    assert state is not None
    return directory.sessions.begin(state, identity, Scope.SCOPE_IMAP, NOW)


async def test_a_token_has_64_octets_at_most_and_opens_as_what_was_issued(directory: Directory) -> None:
    issued = await begin(directory)
    assert len(issued.session_token) <= 64
    session = await directory.sessions.open(issued.session_token, NOW)
    assert session == issued.session
    assert (session.token.identity, session.token.scope) == ("imap", Scope.SCOPE_IMAP)
    assert issued.expires_at == NOW + LIFE and issued.renewable_until == NOW + DAY


async def test_the_second_call_of_a_session_reads_nothing(directory: Directory) -> None:
    issued = await begin(directory)
    assert directory.sessions.known(issued.session_token, NOW) is None
    session = await directory.sessions.open(issued.session_token, NOW)
    await directory.db.close()
    assert directory.sessions.known(issued.session_token, NOW) == session


async def test_every_changed_octet_makes_a_token_worthless(directory: Directory) -> None:
    token = (await begin(directory)).session_token
    for place in range(len(token)):
        forged = token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :]
        with pytest.raises(InvalidSession):
            await directory.sessions.open(forged, NOW)
    for junk in (b"", b"x", token[:-1], token + b"x"):
        with pytest.raises(InvalidSession):
            await directory.sessions.open(junk, NOW)


async def test_a_version_noted_late_takes_nothing_back(directory: Directory) -> None:
    """Two cores change one account: the first to read may be the last to record."""
    for version in (5, 3):
        await directory.db.write(Write(lambda tx, version=version: states.note_change(tx, 1, version)))  # type: ignore[misc]
    changes = await directory.db.read(states.look, 0, SETTINGS.sessions.token_seconds)
    assert [ended.credential_version for ended in changes.ended if ended.account_id == 1] == [5]


async def test_a_token_lapses(directory: Directory) -> None:
    token = (await begin(directory)).session_token
    await directory.sessions.open(token, NOW + LIFE - 1)
    with pytest.raises(SessionExpired):
        directory.sessions.known(token, NOW + LIFE)
    with pytest.raises(SessionExpired):
        await directory.sessions.open(token, NOW + LIFE)


async def test_renewal_ends_24_hours_after_the_login(directory: Directory) -> None:
    issued, now = await begin(directory), NOW
    session_id = issued.session.token.session_id
    while now < NOW + DAY - LIFE // 2:
        now += LIFE // 2
        issued = await directory.sessions.renew(await directory.sessions.open(issued.session_token, now), now)
        assert issued.session.token.session_id == session_id
        assert issued.expires_at == min(now + LIFE, NOW + DAY)
    with pytest.raises(SessionExpired):
        await directory.sessions.open(issued.session_token, NOW + DAY)


@pytest.mark.parametrize("change", ["password", "disabled", "administrator", "deleted"])
async def test_what_an_account_loses_ends_its_sessions_on_every_core(directory: Directory, change: str) -> None:
    await directory.db.write(
        Write(lambda tx: lifecycle.change(tx, "alice@example.test", accounts.Edit(administrator=True)))
    )
    other = await Directory.open(directory.db, SETTINGS)
    alice, bob = await begin(directory), await begin(directory, "bob@example.test")
    for core in (directory, other):
        for issued in (alice, bob):
            await core.sessions.open(issued.session_token, NOW)
    account_id = alice.session.state.account_id
    write: Write[Any]
    match change:
        case "password":
            write = Write(lambda tx: accounts.set_password(tx, account_id, "$argon2id$"))
        case "disabled":
            write = Write(lambda tx: lifecycle.change(tx, "alice@example.test", accounts.Edit(enabled=False)))
        case "administrator":
            write = Write(lambda tx: lifecycle.change(tx, "alice@example.test", accounts.Edit(administrator=False)))
        case _:
            write = Write(lambda tx: lifecycle.remove(tx, "alice@example.test"))
    await directory.db.write(write)
    directory.sessions.forget_account(account_id)
    ended = (await other.sessions.refresh()).ended
    assert account_id in {one.account_id for one in ended}
    for core in (directory, other):
        with pytest.raises(SessionRevoked):
            await core.sessions.open(alice.session_token, NOW)
        with pytest.raises(SessionRevoked):
            await core.sessions.renew(alice.session, NOW)
        assert core.sessions.known(bob.session_token, NOW) is not None
    other.close()


async def test_a_new_right_is_seen_without_ending_sessions(directory: Directory) -> None:
    token = (await begin(directory)).session_token
    assert not (await directory.sessions.open(token, NOW)).state.administrator
    edit = accounts.Edit(administrator=True)
    await directory.db.write(Write(lambda tx: lifecycle.change(tx, "alice@example.test", edit)))
    await directory.sessions.refresh()
    assert (await directory.sessions.open(token, NOW)).state.administrator


async def test_a_session_that_was_logged_off_is_over_everywhere_and_others_go_on(directory: Directory) -> None:
    other = await Directory.open(directory.db, SETTINGS)
    gone, stays = await begin(directory), await begin(directory)
    await other.sessions.open(gone.session_token, NOW)
    session, lifetime = gone.session, SETTINGS.sessions.token_seconds
    heard: list[Any] = []
    directory.db.listeners.on_event(states.SESSIONS_ENDED, heard.extend)

    def revoke(tx: Connection) -> None:
        states.revoke(tx, session.state.account_id, session.token.session_id, gone.session_token, lifetime)

    await directory.db.write(Write(revoke))
    (off,) = heard
    assert (off.session_id, off.token) == (session.token.session_id, gone.session_token)
    await other.sessions.refresh()
    late = await Directory.open(directory.db, SETTINGS)  # a core that starts afterwards
    for core in (other, late):
        with pytest.raises(SessionRevoked):
            await core.sessions.open(gone.session_token, NOW)
        await core.sessions.open(stays.session_token, NOW)
        core.close()
    with pytest.raises(SessionRevoked):
        await directory.sessions.renew(gone.session, NOW)  # renewal asks the database itself


async def test_the_id_of_a_deleted_account_is_never_given_again(directory: Directory) -> None:
    from tests.server.directory.material import make_account

    carol = await directory.db.read(accounts.get, "carol@example.test")
    await directory.db.write(Write(lambda tx: lifecycle.remove(tx, "carol@example.test")))
    again = await make_account(directory.db, "carol@example.test")
    assert again.account_id > carol.account_id
    assert again.mailbox_id > carol.mailbox_id


async def test_keys_rotate_with_overlap(directory: Directory) -> None:
    old = await begin(directory)
    other = await Directory.open(directory.db, SETTINGS)
    days = SETTINGS.sessions.key_days
    assert not await directory.db.write(Write(lambda tx: keys.rotate(tx, NOW + 29 * DAY, days)))
    assert await directory.db.write(Write(lambda tx: keys.rotate(tx, NOW + 30 * DAY, days)))
    await directory.sessions.refresh()
    new = await begin(directory)
    assert old.session_token[0] != new.session_token[0]
    for issued in (old, new):  # `other` has not read the keys since: it does so for the unknown key
        assert await other.sessions.open(issued.session_token, NOW) == issued.session
    assert await directory.db.write(Write(lambda tx: keys.rotate(tx, NOW + 61 * DAY, days)))
    assert len(await directory.db.read(keys.load)) == 2
    other.close()


def test_what_is_sealed_for_one_purpose_is_nothing_for_another() -> None:
    ring = KeyRing({1: bytes(32)})
    assert ring.open(b"one", ring.seal(b"one", b"x")) == b"x"
    with pytest.raises(NotSealed):
        ring.open(b"two", ring.seal(b"one", b"x"))


async def test_an_exchange_is_good_once_for_five_minutes_and_for_its_own_login(store: Database) -> None:
    ring = KeyRing(await store.read(keys.load))
    sealed = exchanges.seal(ring, b"LOGIN:imap:2", b"state", NOW + 300 * SECOND)
    exchange_id, expires_at, state = exchanges.unseal(ring, b"LOGIN:imap:2", sealed, NOW)
    assert state == b"state"
    await store.write(Write(lambda tx: exchanges.use(tx, exchange_id, expires_at)))
    with pytest.raises(ExchangeInvalid):
        await store.write(Write(lambda tx: exchanges.use(tx, exchange_id, expires_at)))
    with pytest.raises(ExchangeInvalid):
        exchanges.unseal(ring, b"LOGIN:imap:2", sealed, NOW + 300 * SECOND)
    for binding in (b"PLAIN:imap:2", b"LOGIN:pop3:2"):
        with pytest.raises(ExchangeInvalid):
            exchanges.unseal(ring, binding, sealed, NOW)
    await store.write(Write(lambda tx: exchanges.forget(tx, NOW + 301 * SECOND)))
    await store.write(Write(lambda tx: exchanges.use(tx, exchange_id, expires_at)))
