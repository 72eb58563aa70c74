"""Mailboxes: their counters, quota, and the maildrop lease of POP3."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select, update

from restante.errors import LeaseLost, MailboxNotFound, MaildropInUse, QuotaExceeded
from restante_server.db import prepared
from restante_server.db.clock import now_microseconds
from restante_server.db.effects import DIRECTORY, invalidate
from restante_server.db.schema import account, mailbox, maildrop_lease
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import folders
from restante_server.store.folders import Role
from restante_server.store.runs import JsonRows, encode_rows, join_from

LEASE_MICROSECONDS: Final = 60 * 1_000_000
LEASE_OCTETS: Final = 16
DEFAULT_FOLDERS: Final = (
    ("Inbox", Role.INBOX),
    ("Sent", Role.SENT),
    ("Drafts", Role.DRAFTS),
    ("Trash", Role.TRASH),
    ("Junk", Role.JUNK),
    ("Archive", Role.ARCHIVE),
)


@dataclass(frozen=True, slots=True)
class MailboxFacts:
    """One mailbox. `address` and `display_name` are those of its owner, empty when the account is gone."""

    mailbox_id: int
    account_id: int | None
    address: str
    display_name: str
    change_number: int
    used_octets: int
    message_count: int
    quota_octets: int | None
    recoverable_octets: int
    recoverable_count: int
    history_from: int


_facts = (
    select(
        mailbox.c.mailbox_id,
        mailbox.c.account_id,
        account.c.address,
        account.c.display_name,
        mailbox.c.change_number,
        mailbox.c.used_octets,
        mailbox.c.message_count,
        mailbox.c.quota_octets,
        mailbox.c.recoverable_octets,
        mailbox.c.recoverable_count,
        mailbox.c.history_from,
    )
    .join_from(mailbox, account, account.c.mailbox_id == mailbox.c.mailbox_id, isouter=True)
    .where(mailbox.c.mailbox_id == bindparam("mailbox"))
)
_number = select(mailbox.c.change_number).where(mailbox.c.mailbox_id == bindparam("mailbox"))
_wanted = JsonRows("mailboxes")
_numbers = select(mailbox.c.mailbox_id, mailbox.c.change_number).select_from(
    join_from(_wanted.rows, mailbox, mailbox.c.mailbox_id == _wanted.item(0))
)
_own = update(mailbox).where(mailbox.c.mailbox_id == bindparam("mailbox")).values(account_id=bindparam("owner"))
_limit = update(mailbox).where(mailbox.c.mailbox_id == bindparam("mailbox")).values(quota_octets=bindparam("quota"))
_room = select(mailbox.c.quota_octets, mailbox.c.used_octets).where(mailbox.c.mailbox_id == bindparam("mailbox"))
_lease = select(maildrop_lease.c.lease, maildrop_lease.c.expires_at).where(
    maildrop_lease.c.mailbox_id == bindparam("mailbox")
)
_give_lease = insert(maildrop_lease)
_drop_lease = delete(maildrop_lease).where(maildrop_lease.c.mailbox_id == bindparam("mailbox"))
_prolong = (
    update(maildrop_lease).where(maildrop_lease.c.mailbox_id == bindparam("mailbox")).values(expires_at=bindparam("at"))
)


def create(
    tx: Connection, now: int, *, quota_octets: int | None = None, account_id: int | None = None, subscribe: bool = True
) -> int:
    """Make a mailbox with its default folders, which are subscribed; returns its id."""
    made = tx.execute(
        insert(mailbox)
        .values(
            account_id=account_id,
            change_number=0,
            next_message_id=1,
            next_folder_id=1,
            quota_octets=quota_octets,
            used_octets=0,
            message_count=0,
            recoverable_octets=0,
            recoverable_count=0,
            history_from=0,
            created_at=now,
        )
        .returning(mailbox.c.mailbox_id)
    )
    mailbox_id: int = made.scalar_one()
    folders.create_default(tx, rights.system(mailbox_id), DEFAULT_FOLDERS, now, subscribe=subscribe)
    return mailbox_id


def assign(tx: Connection, place: Place, account_id: int | None) -> None:
    """Set the owner of a mailbox; None when its account is deleted, and upkeep then removes the mailbox."""
    tx.execute(_own, {"mailbox": place.mailbox_id, "owner": account_id})
    rights.changed(tx, place.mailbox_id)


def set_quota(tx: Connection, place: Place, quota_octets: int | None) -> None:
    """Set the quota; None: no limit. Mail above a new, lower quota stays."""
    tx.execute(_limit, {"mailbox": place.mailbox_id, "quota": quota_octets})
    invalidate(tx, DIRECTORY)


def get(tx: Connection, place: Place) -> MailboxFacts:
    """The facts of a mailbox. Raises MailboxNotFound."""
    row = tx.execute(_facts, {"mailbox": place.mailbox_id}).mappings().one_or_none()
    if row is None:
        raise MailboxNotFound(mailbox_id=place.mailbox_id)
    return _mailbox_facts(row)


def _mailbox_facts(row: RowMapping) -> MailboxFacts:
    values = dict(row)
    values["address"], values["display_name"] = values["address"] or "", values["display_name"] or ""
    return MailboxFacts(**values)


def change_number(tx: Connection, place: Place) -> int:
    """The mailbox's highest change number. Raises MailboxNotFound."""
    row = prepared.first(tx, _number, {"mailbox": place.mailbox_id})
    if row is None:
        raise MailboxNotFound(mailbox_id=place.mailbox_id)
    return int(row[0])


def change_numbers(tx: Connection, mailbox_ids: Iterable[int]) -> dict[int, int]:
    """The highest change number of each mailbox; mailboxes that do not exist are left out."""
    rows = tx.execute(_numbers, {"mailboxes": encode_rows((mailbox_id,) for mailbox_id in mailbox_ids)})
    return {row.mailbox_id: row.change_number for row in rows}


def require_room(tx: Connection, place: Place, octets: int) -> None:
    """Raise QuotaExceeded when so many more octets exceed the quota, MailboxNotFound when there is no such mailbox."""
    row = prepared.first(tx, _room, {"mailbox": place.mailbox_id})
    if row is None:
        raise MailboxNotFound(mailbox_id=place.mailbox_id)
    check_quota(row[0], row[1], octets)


def check_quota(quota_octets: int | None, used_octets: int, more_octets: int) -> None:
    """Raise QuotaExceeded when so many more octets exceed the quota."""
    if quota_octets is not None and used_octets + more_octets > quota_octets:
        raise QuotaExceeded(limit_octets=quota_octets, used_octets=used_octets)


# --- The maildrop lease (RFC 1939 4) ------------------------------------------------------------------------------


def acquire_maildrop(tx: Connection, place: Place, lease: bytes) -> int:
    """Give the maildrop to the holder of `lease` (16 random octets); returns its expiry by the database's clock.

    Raises MaildropInUse while another lease lives.
    """
    now = now_microseconds(tx)
    held = _held(tx, place)
    if held is not None:
        if held.expires_at > now and held.lease != lease:
            raise MaildropInUse
        prepared.run(tx, _drop_lease, {"mailbox": place.mailbox_id})
    expires_at = now + LEASE_MICROSECONDS
    given = {"mailbox_id": place.mailbox_id, "lease": lease, "expires_at": expires_at}
    prepared.run_many(tx, _give_lease, [given])
    return expires_at


def renew_maildrop(tx: Connection, place: Place, lease: bytes) -> int:
    """Renew the lease; returns its expiry. Raises LeaseLost."""
    now = now_microseconds(tx)
    held = _held(tx, place)
    if held is None or held.lease != lease or held.expires_at <= now:
        raise LeaseLost
    prepared.run(tx, _prolong, {"mailbox": place.mailbox_id, "at": now + LEASE_MICROSECONDS})
    return now + LEASE_MICROSECONDS


def release_maildrop(tx: Connection, place: Place, lease: bytes) -> bool:
    """Release the maildrop. Returns False when the holder has released this lease before.

    Raises LeaseLost when the lease has lapsed or another lease holds the maildrop.
    """
    held = _held(tx, place)
    if held is None or held.lease != lease:
        raise LeaseLost
    if held.expires_at == 0:  # marks a released lease
        return False
    if held.expires_at <= now_microseconds(tx):
        raise LeaseLost
    prepared.run(tx, _prolong, {"mailbox": place.mailbox_id, "at": 0})
    return True


class _Held(NamedTuple):
    lease: bytes
    expires_at: int


def _held(tx: Connection, place: Place) -> _Held | None:
    row = prepared.first(tx, _lease, {"mailbox": place.mailbox_id})
    return None if row is None else _Held(*row)
