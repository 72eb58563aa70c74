"""An in-memory core that keeps the contract's promises to POP3, with faults set by tests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from restante import errors
from restante.methods import Method
from restante.methods import Request as RequestType
from restante.methods import Response as ResponseType
from restante.v1 import mailbox_pb2, message_pb2, methods, session_pb2
from tests.harness.fake_sessions import FakeSessions

FOLDER_ID = 7
FIRST_ID = 1000  # message ids are not UIDs


@dataclass
class Account:
    """One account with its Inbox."""

    account_id: int
    address: str
    password: str
    messages: dict[int, bytes] = field(default_factory=dict)  # by UID
    departed: dict[int, bytes] = field(default_factory=dict)  # no more in the Inbox, by message id
    seen: set[int] = field(default_factory=set)
    next_uid: int = 1
    uid_validity: int = 1234
    version: int = 1
    lease: bytes = b""

    def add(self, message: bytes) -> int:
        uid, self.next_uid = self.next_uid, self.next_uid + 1
        self.messages[uid] = message
        return uid

    def leave(self, *uids: int) -> None:
        """Move or remove messages by another session."""
        for uid in uids:
            self.departed[FIRST_ID + uid] = self.messages.pop(uid)

    def chosen(self, request: message_pb2.StreamMessagesRequest) -> Iterator[tuple[int, int, bytes]]:
        """Message id, UID (0 for none) and octets of the messages in a request."""
        if request.messages.HasField("ids"):
            for message_id in sorted(request.messages.ids.message_ids):
                if message_id - FIRST_ID in self.messages:
                    yield message_id, message_id - FIRST_ID, self.messages[message_id - FIRST_ID]
                elif request.include_removed and message_id in self.departed:
                    yield message_id, 0, self.departed[message_id]
            return
        assert request.messages.uids.folder_id == FOLDER_ID
        for run in request.messages.uids.ranges:
            for uid in [uid for uid in self.messages if run.first <= uid <= run.last]:
                yield FIRST_ID + uid, uid, self.messages[uid]


class FakeCore:
    """A core in memory. With `away` every call fails; `break_after` cuts the next stream after so many answers."""

    def __init__(self, batch_octets: int = 256 << 10) -> None:
        self.accounts: dict[str, Account] = {}
        self.sessions = FakeSessions(self._find)
        self.calls: list[str] = []
        self.contexts: list[session_pb2.ClientContext] = []
        self.streamed: list[message_pb2.StreamMessagesRequest] = []
        self.delay_seconds = 0.0  # before each response of a stream
        self.open_streams = 0
        self.away = False
        self.break_after: int | None = None
        self.breaks = 0
        self.before: Callable[[str], None] = lambda name: None
        self._batch_octets = batch_octets
        self._numbers = itertools.count(1)

    def account(self, name: str) -> Account:
        address = f"{name}@example.test"
        if address not in self.accounts:
            self.accounts[address] = Account(next(self._numbers), address, f"{name}-demo")
        return self.accounts[address]

    def _find(self, name: str) -> Account | None:
        return self.accounts.get(name if "@" in name else f"{name}@example.test")

    # -- the methods of CoreLink

    async def execute(
        self,
        method: Method[RequestType, ResponseType],
        request: RequestType,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
        independent: bool = False,
    ) -> ResponseType:
        self.calls.append(method.name)
        self.before(method.name)
        await asyncio.sleep(0)
        if self.away:
            raise errors.StoreBusy
        handlers: dict[Any, Callable[[Any, bytes], Any]] = {
            methods.AUTHENTICATE: self._authenticate,
            methods.ACQUIRE_MAILDROP: self._acquire,
            methods.RENEW_MAILDROP: self._renew_lease,
            methods.RELEASE_MAILDROP: self._release,
            methods.RENEW_SESSION: self._renew_session,
        }
        response: ResponseType = handlers[method](request, session)
        return response

    async def stream_messages(
        self, request: message_pb2.StreamMessagesRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        self.streamed.append(request)
        self.open_streams += 1
        try:
            account = self.sessions.owner(session)
            for sent, response in enumerate(self._batches(account, request)):
                await asyncio.sleep(self.delay_seconds)
                if self.away or sent == self.break_after:
                    self.breaks += sent == self.break_after
                    self.break_after = None
                    raise errors.Draining
                yield response
            if self.away:
                raise errors.Draining
        finally:
            self.open_streams -= 1

    # -- handlers

    def _authenticate(self, request: session_pb2.AuthenticateRequest, _: bytes) -> session_pb2.AuthenticateResponse:
        assert request.scope == session_pb2.SCOPE_POP3
        self.contexts.append(request.client)
        return self.sessions.authenticate(request)

    def _acquire(
        self, request: mailbox_pb2.AcquireMaildropRequest, token: bytes
    ) -> mailbox_pb2.AcquireMaildropResponse:
        account = self.sessions.owner(token)
        if account.lease and account.lease != request.lease:
            raise errors.MaildropInUse
        account.lease = request.lease or b"lease %010d" % next(self._numbers)
        return mailbox_pb2.AcquireMaildropResponse(
            lease=account.lease,
            folder_id=FOLDER_ID,
            uid_validity=account.uid_validity,
            uids=list(account.messages),
            message_ids=[FIRST_ID + uid for uid in account.messages],
            size_octets=[len(message) for message in account.messages.values()],
        )

    def _renew_lease(self, request: mailbox_pb2.RenewMaildropRequest, token: bytes) -> object:
        if self.sessions.owner(token).lease != request.lease:
            raise errors.LeaseLost
        return mailbox_pb2.RenewMaildropResponse()

    def _release(self, request: mailbox_pb2.ReleaseMaildropRequest, token: bytes) -> object:
        account = self.sessions.owner(token)
        if account.lease != request.lease:
            raise errors.LeaseLost
        account.lease = b""
        count = 0
        for run in request.deleted_uids:
            for uid in [uid for uid in account.messages if run.first <= uid <= run.last]:
                del account.messages[uid]
                count += 1
        for run in request.seen_uids:
            account.seen |= {uid for uid in account.messages if run.first <= uid <= run.last}
        return mailbox_pb2.ReleaseMaildropResponse(deleted_count=count)

    def _renew_session(self, _: object, token: bytes) -> session_pb2.RenewSessionResponse:
        return self.sessions.renew(token)

    # -- streaming

    def _batches(
        self, account: Account, request: message_pb2.StreamMessagesRequest
    ) -> Iterator[message_pb2.StreamMessagesResponse]:
        """Batches by the contract's rule: only the last message of a batch may be cut."""
        (section,) = request.sections
        batch, room = message_pb2.StreamMessagesResponse(), self._batch_octets
        for message_id, uid, message in account.chosen(request):
            octets = cut(message, section)
            if room < len(octets) and batch.rows.uids:
                yield batch
                batch, room = message_pb2.StreamMessagesResponse(), self._batch_octets
            if not batch.rows.sections:
                batch.rows.sections.add()
            batch.rows.message_ids.append(message_id)
            batch.rows.uids.append(uid)
            batch.rows.sections[0].octets.append(octets[:room])
            batch.rows.sections[0].total_octets.append(len(octets))
            sent = min(room, len(octets))
            room -= sent
            if sent < len(octets):
                yield batch
                for at in range(sent, len(octets), self._batch_octets):
                    rest = message_pb2.SectionRest(
                        message_id=message_id, offset_octets=at, octets=octets[at : at + self._batch_octets]
                    )
                    yield message_pb2.StreamMessagesResponse(rest=rest)
                batch, room = message_pb2.StreamMessagesResponse(), self._batch_octets
        if batch.rows.uids:
            yield batch


def cut(message: bytes, section: message_pb2.Section) -> bytes:
    if section.kind == message_pb2.SECTION_KIND_HEADER:
        header, blank, _ = message.partition(b"\r\n\r\n")
        message = header + blank
    start = section.offset_octets
    return message[start : start + section.length_octets] if section.HasField("length_octets") else message[start:]
