"""Creating, changing and removing an account: its directory entry and its mailbox in one transaction."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.errors import InvalidArgument
from restante_server.directory import accounts, rights
from restante_server.directory.accounts import Account, Edit, NewAccount
from restante_server.store import mailboxes


def create(tx: Connection, now: int, new: NewAccount, quota_octets: int | None = None) -> Account:
    """Create an account with its mailbox and default folders. Quota None: no limit.

    Raises AddressExists, DomainNotFound, InvalidAddress, InvalidArgument.
    """
    require_quota(quota_octets)
    prepared = accounts.prepare(tx, new)
    mailbox_id = mailboxes.create(tx, now, quota_octets=quota_octets)
    account_id = accounts.enter(tx, now, prepared, mailbox_id)
    mailboxes.assign(tx, rights.system(mailbox_id), account_id)
    return accounts.get_by_id(tx, account_id)


def change(tx: Connection, address: str, edit: Edit, quota_octets: int | None = None) -> Account:
    """Change settings of an account and the quota of its mailbox. Quota None: unchanged; 0: no limit.

    Raises AccountNotFound, InvalidArgument.
    """
    require_quota(quota_octets)
    found = accounts.change(tx, address, edit)
    if quota_octets is None:
        return found
    mailboxes.set_quota(tx, rights.system(found.mailbox_id), quota_octets or None)
    return accounts.get_by_id(tx, found.account_id)


def remove(tx: Connection, address: str) -> Account:
    """Remove an account from the directory. Its mailbox stays without an owner until a job deletes it.

    Returns the removed account. Raises AccountNotFound.
    """
    gone = accounts.remove(tx, address)
    mailboxes.assign(tx, rights.system(gone.mailbox_id), None)
    return gone


def messages_left(tx: Connection, mailbox_id: int) -> int:
    """The messages in the mailbox of a removed account, with the recoverable ones. Raises MailboxNotFound."""
    found = mailboxes.get(tx, rights.system(mailbox_id))
    return found.message_count + found.recoverable_count


def require_quota(quota_octets: int | None) -> None:
    """Raises InvalidArgument for a negative quota."""
    if quota_octets is not None and quota_octets < 0:
        raise InvalidArgument(field="quota_octets", problem="must not be negative")
