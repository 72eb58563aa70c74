"""The base of transport tests: accounts, mail, and the calls of gateways and users."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, select

from restante import errors
from restante.v1.checks_pb2 import MessageChecks
from restante.v1.content_pb2 import UploadKind
from restante.v1.session_pb2 import Scope
from restante.v1.submission_pb2 import (
    EnvelopeOptions,
    EnvelopeRecipient,
    SubmitMessageRequest,
    SubmitMessageResponse,
)
from restante.v1.transport_pb2 import (
    AcceptBegin,
    AcceptEnd,
    AcceptRequest,
    AcceptResponse,
    AcceptSubmissionRequest,
    AcceptSubmissionResponse,
    OutboundLease,
    OutcomeKind,
    ReadOutboundRequest,
    RecipientOutcome,
    RecipientVerdict,
    ReportOutcomeRequest,
)
from restante_process import config
from restante_server.accounts import lifecycle
from restante_server.api.engine.call import Call
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.core import Core
from restante_server.api.engine.dispatch import Dispatcher
from restante_server.api.engine.identity import Authenticator
from restante_server.api.engine.notify import Notifier
from restante_server.api.engine.observe import CallObserver
from restante_server.api.services import accept, outbound
from restante_server.db import schema
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import accounts, aliases, domains, keys
from restante_server.store import check as store_check
from restante_server.store import contents as store_contents
from restante_server.store import uploads
from restante_server.store.contents import Wanted
from restante_server.store.staging import Contents, ContentSettings, Form
from restante_server.transport import check as transport_check
from restante_server.transport.outbound.turns import Turns
from restante_server.transport.service import Transport
from restante_server.transport.states import State
from tests.server.api.people import RPCS


def reason(answer: AcceptResponse | RecipientVerdict) -> str:
    """The reason of a refusal; "" when there is none."""
    return errors.from_status(answer.status).reason if answer.HasField("status") else ""


START = 1_800_000_000_000_000  # microseconds: when the store was made
TRACE = (
    "Received: from mx.example.org ([192.0.2.1])\r\n by mx.example.test with ESMTP id abc;\r\n"
    " Mon, 1 Jan 2029 10:00:00 +0000\r\n"
)
MESSAGE = (
    b"From: Dave <dave@example.org>\r\nTo: alice@example.test\r\nSubject: Lunch\r\n"
    b"Message-ID: <lunch@example.org>\r\nDate: Mon, 1 Jan 2029 10:00:00 +0000\r\n\r\nAt noon?\r\n"
)
VERIFIER = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"
FOREVER = 1 << 40


@dataclass
class Clock:
    """The database's clock. Microseconds."""

    ahead: int = 0

    def __call__(self, tx: Connection) -> int:
        return time.time_ns() // 1_000 + self.ahead


@dataclass
class Letter:
    """A whole message in a folder."""

    message_id: int
    head: bytes
    content: bytes
    flags: int

    @property
    def octets(self) -> bytes:
        return self.head + self.content


@dataclass
class World:
    """The parts under test."""

    core: Core
    dispatcher: Dispatcher
    clock: Clock
    people: dict[str, accounts.Account] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def db(self) -> Database:
        return self.core.db

    @property
    def transport(self) -> Transport:
        return self.core.transport

    def call(self, caller: Caller, seconds: float = 30.0) -> Call:
        return Call(self.core, caller, time.time_ns() // 1_000 + self.clock.ahead, time.monotonic() + seconds)

    def gateway(self, name: str = "smtp") -> Caller:
        return Caller(identity=name)

    def session(self, name: str, scope: int = Scope.SCOPE_API, identity: str = "") -> Caller:
        who = self.people[name]
        return Caller(
            identity=identity,
            account_id=who.account_id,
            mailbox_id=who.mailbox_id,
            scope=scope,
            address=who.address,
            client_address="192.0.2.7",
        )

    async def run(self, request: Any, caller: Caller) -> Any:
        """A unary call through the dispatcher."""
        handler = next(handler for handler in RPCS.unary.values() if handler.method.request is type(request))
        return await self.dispatcher.run(handler, caller, request, time.monotonic() + 30)

    async def add_account(self, address: str, quota_octets: int | None = None) -> accounts.Account:
        new = accounts.NewAccount(address, VERIFIER)
        made = await self.db.write(Write(partial(lifecycle.create, now=START, new=new, quota_octets=quota_octets)))
        self.people[address.partition("@")[0]] = made
        return made

    async def add_accounts(self, addresses: Sequence[str]) -> None:
        """Create many accounts at once, without a quota."""

        def create(tx: Connection) -> None:
            for address in addresses:
                self.people[address.partition("@")[0]] = lifecycle.create(
                    tx, START, accounts.NewAccount(address, VERIFIER)
                )

        await self.db.write(Write(create))

    async def add_alias(self, address: str, *targets: str) -> None:
        await self.db.write(Write(lambda tx: aliases.create(tx, START, address, targets)))

    async def set_catch_all(self, address: str) -> None:
        await self.db.write(Write(lambda tx: domains.set_catch_all(tx, "example.test", address)))

    async def accept(
        self,
        recipients: Sequence[str | EnvelopeRecipient],
        content: bytes = MESSAGE,
        *,
        reverse_path: str = "dave@example.org",
        request_id: bytes = b"",
        options: EnvelopeOptions | None = None,
        chunk: int = 100_000,
        checks: MessageChecks | None = None,
    ) -> AcceptResponse:
        """Make one acceptance on a separate stream."""
        begin = AcceptBegin(
            request_id=request_id or secrets.token_bytes(16),
            reverse_path=reverse_path,
            recipients=[EnvelopeRecipient(forward_path=r) if isinstance(r, str) else r for r in recipients],
            options=options,
            client_address="192.0.2.1",
            trace_field=TRACE,
        )
        number = next(self.ids)

        async def requests() -> AsyncIterator[AcceptRequest]:
            yield AcceptRequest(acceptance_id=number, start=begin)
            for start in range(0, len(content), chunk):
                yield AcceptRequest(acceptance_id=number, chunk=content[start : start + chunk])
                await asyncio.sleep(0)
            yield AcceptRequest(acceptance_id=number, commit=AcceptEnd(checks=checks))

        stream = accept.accept(self.call(self.gateway(), FOREVER), requests())
        responses = [response async for response in stream if not response.granted_octets]
        assert len(responses) == 1
        return responses[0]

    async def letters(self, name: str, role: int = 1) -> list[Letter]:
        """The messages of a folder, in order of UID."""
        return await self.db.read(self._letters, self.people[name].mailbox_id, role)

    def _letters(self, tx: Connection, mailbox_id: int, role: int) -> list[Letter]:
        message, folder = schema.message, schema.folder
        rows = tx.execute(
            select(message.c.message_id, message.c.head, message.c.content_id, message.c.flags)
            .join(folder, (folder.c.mailbox_id == message.c.mailbox_id) & (folder.c.folder_id == message.c.folder_id))
            .where(message.c.mailbox_id == mailbox_id, folder.c.role == role)
            .order_by(message.c.uid)
        ).all()
        found = []
        for message_id, head, content_id, flags in rows:
            stored = store_contents.load(tx, [content_id])[content_id]
            cut = store_contents.cut(tx, self.core.contents.directory, stored, b"", Wanted(), FOREVER)
            found.append(Letter(message_id, bytes(head), cut.octets, flags))
        return found

    async def states(self, transport_id: int) -> list[tuple[str, State, str]]:
        """(path, state, status) of each recipient."""
        table = schema.transport_recipient
        statement = (
            select(table.c.forward_path, table.c.state, table.c.status)
            .where(table.c.transport_id == transport_id)
            .order_by(table.c.recipient_id)
        )
        rows = await self.db.read(lambda tx: tx.execute(statement).all())
        return [(path, State(state), status) for path, state, status in rows]

    async def pass_time(self, microseconds: int) -> None:
        """Advance the clock and run the due jobs."""
        self.clock.ahead += microseconds
        await self.settle()

    async def settle(self) -> None:
        """Run all background jobs that are due now."""
        await self.transport.tick()
        await self.transport.expire()
        await self.transport.deliver()

    async def lease(self, most: int = 100, seconds: int = 0) -> list[OutboundLease]:
        """The leases for a relay without other leases."""
        call = self.call(self.gateway("relay"), FOREVER)
        leases, _ = await outbound.lease_now(call, Turns(most), outbound.lease_seconds(seconds))
        return list(map(outbound.lease_of, leases))

    async def report(self, lease: OutboundLease, *outcomes: RecipientOutcome) -> None:
        await self.run(ReportOutcomeRequest(lease_id=lease.lease_id, outcomes=outcomes), self.gateway("relay"))

    async def report_all(self, lease: OutboundLease, kind: OutcomeKind.ValueType, status: str, **facts: Any) -> None:
        """Report the same outcome for all recipients of a lease."""
        outcomes = [
            RecipientOutcome(recipient_id=one.recipient_id, kind=kind, status=status, **facts)
            for one in lease.recipients
        ]
        await self.report(lease, *outcomes)

    async def read_outbound(self, lease: OutboundLease) -> bytes:
        stream = outbound.read_outbound(
            self.call(self.gateway("relay"), FOREVER), ReadOutboundRequest(lease_id=lease.lease_id)
        )
        return b"".join([response.octets async for response in stream])

    async def submit(self, name: str, content: bytes | None = None, **fields: Any) -> SubmitMessageResponse:
        """Submit a message by the API."""
        response: SubmitMessageResponse = await self.run(submit_request(content, **fields), self.session(name))
        return response

    async def submit_by_smtp(self, name: str, content: bytes | None = None, **fields: Any) -> int:
        """Submit a message as the SMTP gateway does; returns its transport id."""
        request = AcceptSubmissionRequest(submission=submit_request(content, **fields), trace_field=TRACE)
        response: AcceptSubmissionResponse = await self.run(
            request, self.session(name, Scope.SCOPE_SMTP_SUBMIT, "smtp")
        )
        return response.transport_id

    async def upload(self, name: str, octets: bytes, kind: int = UploadKind.UPLOAD_KIND_MESSAGE) -> bytes:
        """A finished upload."""
        form = Form.MAKE_CANONICAL if kind == UploadKind.UPLOAD_KIND_MESSAGE else Form.ANY
        staged = await self.core.contents.stage(octets, form)
        upload_id, account_id = secrets.token_bytes(16), self.people[name].account_id
        now = self.call(self.gateway()).now

        def run(tx: Connection) -> None:
            uploads.begin(tx, upload_id, account_id, kind, now)
            uploads.finish(tx, upload_id, len(octets), staged, now)

        await self.db.write(Write(run))
        return upload_id

    async def problems(self) -> list[str]:
        return await self.db.read(lambda tx: store_check.check(tx) + transport_check.check(tx))


def submit_request(content: bytes | None = None, **fields: Any) -> SubmitMessageRequest:
    """A request with an id; recipients may be plain addresses."""
    if content is not None:
        fields["content"] = content
    recipients = [EnvelopeRecipient(forward_path=r) if isinstance(r, str) else r for r in fields.pop("recipients", ())]
    fields.setdefault("request_id", secrets.token_bytes(16))
    return SubmitMessageRequest(recipients=recipients, **fields)


def settings(directory: Path) -> config.Config:
    """The default settings, with a hostname and without a disk reserve."""
    return config.Config(
        data=str(directory),
        store=config.Store(contents=str(directory), reserve_octets=0),
        transport=config.Transport(hostname="mx.example.test"),
    )


async def open_world(db: Database, directory: Path, clock: Clock) -> World:
    """A store with alice, bob and carol at example.test."""
    directory.mkdir()
    configured = settings(directory)
    contents = Contents(db, ContentSettings(directory=directory, reserve_octets=0))
    notifier = Notifier(db)
    core = Core(
        settings=configured,
        db=db,
        epoch=1,
        contents=contents,
        directory=SimpleNamespace(sessions=None),  # type: ignore[arg-type]  # nobody logs on here
        transport=Transport.of(configured, db, contents),
        notifier=notifier,
        authenticator=Authenticator({}, None),  # type: ignore[arg-type]
    )
    await db.write(Write(_begin))
    world = World(core, Dispatcher(core, CallObserver(CollectorRegistry(), quiet=True)), clock)
    for name in ("alice", "bob", "carol"):
        await world.add_account(f"{name}@example.test")
    return world


def _begin(tx: Connection) -> None:
    tx.execute(
        schema.store.insert().values(store_id=1, store_uuid="test", epoch=1, uid_validity_next=1, created_at=START)
    )
    keys.create(tx, START)
    domains.create(tx, START, "example.test")
