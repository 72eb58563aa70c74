"""The real core in the test's own event loop, on a copy of a prepared SQLite store: it is ready in about 0.1 s.

Unit tests of the gateways use it instead of an imitation. `tests/harness/faulty_link.py` adds faults to the link.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, select, update

from restante.calls import Calls
from restante.client import Client
from restante.link import CoreLink
from restante.rows import Message
from restante.target import ProcessIdentity, Target
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest, SetPasswordRequest, UpdateAccountRequest
from restante.v1.folder_pb2 import ClaimRecentRequest, Folder
from restante.v1.message_pb2 import AppendMessageResponse
from restante_process import config, config_file
from restante_server.app import CoreProcess
from restante_server.db import migrate, schema
from restante_server.db.operation import Write
from restante_server.db.schema import maildrop_lease
from restante_server.upkeep import restore, sweeps

DOMAIN = "example.test"
PEOPLE = ("alice", "bob", "carol")
RECEIVED_AT = datetime.datetime(2024, 1, 1, 9, 0, 5, tzinfo=datetime.UTC)

L = TypeVar("L", bound=CoreLink)


def address(name: str) -> str:
    """The address of one of PEOPLE."""
    return f"{name}@{DOMAIN}"


def password(name: str) -> str:
    """The password of one of PEOPLE in a prepared store."""
    return f"{name}-demo"


def prepare_store(directory: Path) -> None:
    """A store with the accounts of PEOPLE, to be copied by `open_local_core`. Runs an event loop."""
    directory.mkdir(mode=0o700)
    migrate.upgrade(_settings(directory, {}).store_url)

    async def fill() -> None:
        async with LocalCore(directory) as core:
            await core.admin.execute(methods.CREATE_DOMAIN, CreateDomainRequest(name=DOMAIN))
            for name in PEOPLE:
                account = CreateAccountRequest(address=address(name), password=password(name))
                await core.admin.execute(methods.CREATE_ACCOUNT, account)

    asyncio.run(fill())


@asynccontextmanager
async def open_local_core(template: Path, directory: Path, **settings: Any) -> AsyncIterator[LocalCore]:
    """A core on a copy of a prepared store. `settings` are dotted names of the configuration."""
    shutil.copytree(template, directory)
    async with LocalCore(directory, **settings) as core:
        yield core


class LocalCore:
    """A core on the store in `directory`, with the actions of other sessions, of administrators and of time."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory, self._settings = directory, settings
        self._running, self._links = AsyncExitStack(), AsyncExitStack()
        self._users: dict[str, Client] = {}
        self._passwords = {name: password(name) for name in PEOPLE}
        self.process: CoreProcess

    async def __aenter__(self) -> LocalCore:
        await self.start()
        self.admin = Calls(await self.link("admin"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._links.aclose()
        await self.stop()

    # --- the process ---

    async def start(self) -> None:
        """Serve on the socket of the directory."""
        opened = CoreProcess.open(_settings(self.directory, self._settings))
        self.process = await self._running.enter_async_context(opened)

    async def stop(self) -> None:
        """Drain and end. The links stay, and find the core again after `start`."""
        await self._running.aclose()

    async def restart_restored(self) -> None:
        """Go on with the same mail as after a restore: another epoch, another UIDVALIDITY of every folder."""

        def begin_again(tx: Connection) -> None:
            restore.begin_again(tx)

        await self.process.core.db.write(Write(begin_again))
        await self.stop()
        await self.start()

    # --- links ---

    def target(self, identity: str = "") -> Target:
        """The address of the socket, with a process identity or without one."""
        if not identity:
            return Target(f"unix:{self.process.socket}")
        secret = (self.directory / "secrets" / f"{identity}.secret").read_text().strip()
        return Target(f"unix:{self.process.socket}", ProcessIdentity(identity, secret))

    async def link(self, identity: str, kind: type[L] = CoreLink, **options: Any) -> L:  # type: ignore[assignment]
        """A link with a process identity, closed before the core."""
        made = kind(self.target(identity), **options)
        self._links.push_async_callback(made.close)
        return made

    async def user(self, name: str) -> Client:
        """A native client of one of PEOPLE."""
        if name not in self._users:
            opened = Client.connect(self.target(), user=address(name), password=self._passwords[name])
            self._users[name] = await self._links.enter_async_context(opened)
        return self._users[name]

    # --- actions of other sessions ---

    async def deliver(
        self, name: str, content: bytes, *, flags: Iterable[str] = (), folder: str = "Inbox"
    ) -> AppendMessageResponse:
        """Add a message, recent to the next session that opens the folder."""
        user = await self.user(name)
        return await user.messages.append(folder, content, flags=flags, received_at=RECEIVED_AT)

    async def folder(self, name: str, folder: str = "Inbox") -> Folder:
        """A folder as it is now."""
        return await (await self.user(name)).folders.get(folder)

    async def inbox(self, name: str) -> list[Message]:
        """The messages of the Inbox, in order of UID."""
        user = await self.user(name)
        return sorted([each async for each in user.messages.query("Inbox")], key=lambda each: each.uid)

    async def claim_recent(self, name: str) -> None:
        """Claim the recent messages of the Inbox, so that none is recent to a later session."""
        request = ClaimRecentRequest(folder_id=(await self.folder(name)).folder_id)
        await (await self.user(name)).execute(methods.CLAIM_RECENT, request)

    # --- actions of administrators and of time ---

    async def set_quota(self, name: str, octets: int) -> None:
        """Limit a mailbox."""
        request = UpdateAccountRequest(address=address(name), quota_octets=octets)
        await self.admin.execute(methods.UPDATE_ACCOUNT, request)

    async def set_password(self, name: str, password: str) -> None:
        """Set a password, which ends all sessions of the account."""
        self._passwords[name] = password
        self._users.pop(name, None)
        await self.admin.execute(methods.SET_PASSWORD, SetPasswordRequest(address=address(name), password=password))

    async def end_sessions(self, name: str) -> None:
        """End all sessions of an account, by a new password."""
        await self.set_password(name, secrets.token_hex(8))

    async def maildrop_is_leased(self, name: str) -> bool:
        """Whether a POP3 session holds the maildrop."""
        holder = maildrop_lease.c.mailbox_id == (await self.user(name)).session.info.mailbox_id
        held = select(maildrop_lease.c.expires_at).where(holder)
        expiry = await self.process.core.db.read(lambda tx: tx.execute(held).scalar())
        return expiry is not None and expiry > time.time() * 1_000_000

    async def take_maildrop(self, name: str) -> None:
        """Give the maildrop to another session, as after the lapse of the lease."""
        holder = maildrop_lease.c.mailbox_id == (await self.user(name)).session.info.mailbox_id
        take = update(maildrop_lease).where(holder).values(lease=secrets.token_bytes(16))

        def run(tx: Connection) -> None:
            tx.execute(take)

        await self.process.core.db.write(Write(run))

    async def end_reading_leases(self) -> None:
        """Erase the messages that were removed for good, as an hour after their removal."""
        lapse = update(schema.removed).values(expires_at=0).execution_options(across_mailboxes=True)

        def run(tx: Connection) -> None:
            tx.execute(lapse)

        db = self.process.core.db
        await db.write(Write(run))
        await sweeps.erase_removed(db, 0)


def _settings(directory: Path, more: dict[str, Any]) -> config.Config:
    flags: dict[str, Any] = {
        "data": str(directory),
        "core.api_port": -1,
        "core.gateway_port": -1,
        "core.drain_seconds": 1.0,
        "health.core": -1,
        "sessions.hash_memory_kib": 64,
        "sessions.hash_passes": 1,
        "store.reserve_octets": 1_000_000,
        "tls.authentication": "except-loopback",
        "transport.hostname": "mx.example.test",
        **more,
    }
    return config_file.load(None, {}, flags)
