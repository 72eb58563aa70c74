"""Accounts of the directory, each with its mailbox id. `accounts.lifecycle` makes and removes account and mailbox."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from restante.errors import AccountNotFound, InvalidAddress, InvalidArgument
from restante.v1.admin_pb2 import SentCopyPolicy
from restante_mail.envelope.paths import Path
from restante_server.db.effects import DIRECTORY, invalidate
from restante_server.db.schema import account, credential, mailbox
from restante_server.directory import addresses, credentials, domains, names, states

MAX_DISPLAY_NAME_OCTETS = 255


@dataclass(frozen=True, slots=True)
class Account:
    """One account with the counters of its mailbox. Times are microseconds."""

    account_id: int
    domain_id: int
    address: str  # as spelled
    address_key: str
    display_name: str
    enabled: bool
    administrator: bool
    sent_copy: int  # SentCopyPolicy
    credential_version: int
    mailbox_id: int
    quota_octets: int | None
    used_octets: int
    message_count: int
    created_at: int


@dataclass(frozen=True, slots=True)
class NewAccount:
    """The values of a new account."""

    address: str
    verifier: str  # PHC string of the password
    display_name: str = ""
    sent_copy: int = SentCopyPolicy.SENT_COPY_POLICY_API
    administrator: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    """Changes of an account; None leaves a value unchanged."""

    display_name: str | None = None
    enabled: bool | None = None
    administrator: bool | None = None
    sent_copy: int | None = None


_accounts = select(
    account.c.account_id,
    account.c.domain_id,
    account.c.address,
    account.c.address_key,
    account.c.display_name,
    account.c.enabled,
    account.c.administrator,
    account.c.sent_copy,
    account.c.credential_version,
    account.c.mailbox_id,
    mailbox.c.quota_octets,
    mailbox.c.used_octets,
    mailbox.c.message_count,
    account.c.created_at,
).join_from(account, mailbox, mailbox.c.mailbox_id == account.c.mailbox_id)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checked new account: its address is free, and this transaction holds the lock on its domain."""

    new: NewAccount
    address: Path
    display_name: str
    domain_id: int


def prepare(tx: Connection, new: NewAccount) -> Prepared:
    """Check a new account and claim its address.

    Raises AddressExists, DomainNotFound, InvalidAddress, InvalidArgument.
    """
    address = addresses.parse(new.address)
    return Prepared(new, address, require_display_name(new.display_name), domains.claim(tx, address))


def enter(tx: Connection, now: int, prepared: Prepared, mailbox_id: int) -> int:
    """Insert the rows of an account whose mailbox exists; returns the account's id."""
    made = tx.execute(
        insert(account)
        .values(
            domain_id=prepared.domain_id,
            address=str(prepared.address),
            address_key=prepared.address.key,
            display_name=prepared.display_name,
            name_key=names.fold(prepared.display_name),
            enabled=True,
            administrator=prepared.new.administrator,
            sent_copy=prepared.new.sent_copy,
            credential_version=1,
            mailbox_id=mailbox_id,
            created_at=now,
        )
        .returning(account.c.account_id)
    )
    account_id: int = made.scalar_one()
    credentials.create(tx, account_id, prepared.new.verifier, now)
    return account_id


def get(tx: Connection, address: str) -> Account:
    """The account of an address. Raises AccountNotFound."""
    try:
        key = addresses.key(address)
    except InvalidAddress:
        raise AccountNotFound(account=address) from None
    row = tx.execute(_accounts.where(account.c.address_key == key)).mappings().first()
    if row is None:
        raise AccountNotFound(account=address)
    return _account(row)


def get_by_id(tx: Connection, account_id: int) -> Account:
    """The account of an id. Raises AccountNotFound."""
    row = tx.execute(_accounts.where(account.c.account_id == account_id)).mappings().first()
    if row is None:
        raise AccountNotFound(account=account_id)
    return _account(row)


def listing(tx: Connection, domain_name: str, after: str, limit: int) -> list[Account]:
    """At most `limit` accounts of one domain, or of all (""), behind the address key `after`, ordered by key.

    Raises DomainNotFound, InvalidArgument.
    """
    statement = _accounts.where(account.c.address_key > after).order_by(account.c.address_key).limit(limit)
    if domain_name:
        statement = statement.where(account.c.domain_id == domains.get(tx, domain_name).domain_id)
    return [_account(row) for row in tx.execute(statement).mappings()]


def change(tx: Connection, address: str, edit: Edit) -> Account:
    """Change an account's settings. Disabling it and revoking its administrator right end its sessions.

    Raises AccountNotFound, InvalidArgument.
    """
    found = get(tx, address)
    values: dict[str, object] = {}
    if edit.display_name is not None:
        display_name = require_display_name(edit.display_name)
        values.update(display_name=display_name, name_key=names.fold(display_name))
    if edit.enabled is not None:
        values["enabled"] = edit.enabled
    if edit.administrator is not None:
        values["administrator"] = edit.administrator
    if edit.enabled is not None or edit.administrator is not None:
        invalidate(tx, DIRECTORY)  # `postmaster` may resolve to another account now
    if edit.sent_copy is not None:
        values["sent_copy"] = edit.sent_copy
    if values:
        tx.execute(update(account).where(account.c.account_id == found.account_id).values(values))
    less = (found.enabled and edit.enabled is False) or (found.administrator and edit.administrator is False)
    if less:
        raise_version(tx, found.account_id)
    else:
        states.note_change(tx, found.account_id, found.credential_version)
    return get_by_id(tx, found.account_id)


def set_password(tx: Connection, account_id: int, verifier: str) -> int:
    """Set another password, which ends the account's sessions; returns the new credential version."""
    credentials.replace(tx, account_id, verifier)
    return raise_version(tx, account_id)


def raise_version(tx: Connection, account_id: int) -> int:
    """End all sessions of the account; returns the new credential version. Raises AccountNotFound."""
    raised = tx.execute(
        update(account)
        .where(account.c.account_id == account_id)
        .values(credential_version=account.c.credential_version + 1)
        .returning(account.c.credential_version)
    )
    version: int | None = raised.scalar()
    if version is None:
        raise AccountNotFound(account=account_id)
    states.note_change(tx, account_id, version)
    return version


def remove(tx: Connection, address: str) -> Account:
    """Remove an account from the directory. Returns the removed account.

    Raises AccountNotFound.
    """
    found = get(tx, address)
    domains.release(tx, found.address_key)
    tx.execute(delete(credential).where(credential.c.account_id == found.account_id))
    tx.execute(delete(account).where(account.c.account_id == found.account_id))
    states.note_change(tx, found.account_id, found.credential_version + 1)
    return found


def require_display_name(text: str) -> str:
    """Return the display name. Raises InvalidArgument when it is too long or has control characters."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_DISPLAY_NAME_OCTETS:
        raise InvalidArgument(field="display_name", problem=f"must be at most {MAX_DISPLAY_NAME_OCTETS} octets long")
    if any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in text):
        raise InvalidArgument(field="display_name", problem="must not have control characters")
    return text


def _account(row: RowMapping) -> Account:
    return Account(**dict(row))
