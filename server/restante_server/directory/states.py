"""The account states that sessions depend on, and their changes, which every core must see within seconds."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, delete, select

from restante_server.db import prepared
from restante_server.db.clock import now_microseconds
from restante_server.db.effects import Topic, events
from restante_server.db.schema import account, account_change, revoked_session
from restante_server.db.upsert import insert_into

SECOND = 1_000_000  # microseconds
OVERLAP_SECONDS = 60  # each look also covers this time before the last one: a commit may follow its timestamp late
CHANGES_KEPT_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class AccountState:
    """The facts of an account that a session needs."""

    account_id: int
    credential_version: int  # sessions with a lower version have ended
    enabled: bool
    administrator: bool
    mailbox_id: int
    address: str  # as spelled
    display_name: str


@dataclass(frozen=True, slots=True)
class Ended:
    """All sessions of an account with a lower credential version have ended."""

    account_id: int
    credential_version: int


@dataclass(frozen=True, slots=True)
class LoggedOff:
    """One session was logged off."""

    account_id: int
    session_id: int
    token: bytes
    until: int  # microseconds by the database's clock: all tokens of the session have expired by then


SESSIONS_ENDED: Topic[list[Ended | LoggedOff]] = Topic("sessions ended", list)
"""The event of sessions that ended, in order."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes that one `look` found."""

    looked_at: int  # by the database's clock
    ended: tuple[Ended, ...]
    revoked: dict[int, int]  # {session id: expiry of the last of its tokens}


COLUMNS = (
    account.c.account_id,
    account.c.credential_version,
    account.c.enabled,
    account.c.administrator,
    account.c.mailbox_id,
    account.c.address,
    account.c.display_name,
)
_by_id = select(*COLUMNS).where(account.c.account_id == bindparam("wanted"))
_changed = select(account_change.c.account_id, account_change.c.credential_version).where(
    account_change.c.changed_at > bindparam("since")
)
_revoked = select(revoked_session.c.session_id, revoked_session.c.expires_at).where(
    revoked_session.c.expires_at > bindparam("since")
)


def fetch(tx: Connection, account_id: int) -> AccountState | None:
    """The account's state, or None when the account does not exist."""
    row = prepared.first(tx, _by_id, {"wanted": account_id})
    return AccountState(*row) if row is not None else None


def note_change(tx: Connection, account_id: int, credential_version: int) -> None:
    """Record a change of the account for all cores; sessions below `credential_version` have ended.

    Keeps a higher version in the row: another core may have ended sessions since this core read the account.
    """
    values = {"credential_version": credential_version, "changed_at": now_microseconds(tx)}
    noted, new = account_change.c.credential_version, credential_version
    highest = case((noted > new, noted), else_=new)
    statement = insert_into(tx, account_change).values(account_id=account_id, **values)
    tx.execute(
        statement.on_conflict_do_update(index_elements=["account_id"], set_=values | {"credential_version": highest})
    )
    events(tx, SESSIONS_ENDED).append(Ended(account_id, credential_version))


def revoke(tx: Connection, account_id: int, session_id: int, token: bytes, token_seconds: int) -> None:
    """End one session. Its row stays until all its tokens have expired. `token` is the last one, for the event.

    The rows are therefore made in the order of their `expires_at`.
    """
    expires_at = now_microseconds(tx) + (token_seconds + OVERLAP_SECONDS) * SECOND
    statement = insert_into(tx, revoked_session).values(session_id=session_id, expires_at=expires_at)
    tx.execute(statement.on_conflict_do_nothing())
    events(tx, SESSIONS_ENDED).append(LoggedOff(account_id, session_id, token, expires_at))


def is_revoked(tx: Connection, session_id: int) -> bool:
    """Whether the session was logged off, by any core."""
    statement = select(revoked_session.c.session_id).where(revoked_session.c.session_id == session_id)
    return tx.execute(statement).first() is not None


def look(tx: Connection, since: int, token_seconds: int) -> Changes:
    """The changes since an earlier look (`since` is its `looked_at`; 0: all changes that still matter)."""
    now, horizon = now_microseconds(tx), since - OVERLAP_SECONDS * SECOND
    ended = tuple(Ended(*row) for row in tx.execute(_changed, {"since": horizon}))
    ends_after = max(now, horizon + (token_seconds + OVERLAP_SECONDS) * SECOND)
    revoked = {row.session_id: row.expires_at for row in tx.execute(_revoked, {"since": ends_after})}
    return Changes(now, ended, revoked)


def forget(tx: Connection) -> None:
    """Delete the rows that no core needs any more."""
    now = now_microseconds(tx)
    tx.execute(delete(account_change).where(account_change.c.changed_at < now - CHANGES_KEPT_SECONDS * SECOND))
    tx.execute(delete(revoked_session).where(revoked_session.c.expires_at < now))
