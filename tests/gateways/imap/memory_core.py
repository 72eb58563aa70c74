"""A core in memory, for tests of the gateway alone: the contract's answers, without store, rights or concurrency."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from typing import Any

from google.protobuf.message import Message as Protobuf

from restante import errors
from restante.execute import Followed
from restante.methods import Method, Request, Response
from restante.v1 import content_pb2, folder_pb2, mailbox_pb2, message_pb2, methods, search_pb2, session_pb2, sync_pb2
from restante.v1.message_pb2 import MessageSet
from restante.v1.types_pb2 import CommitToken, FolderChanges, IdRange, KeywordSet
from restante.watch import OnNotice, TokenSource
from restante_mail import canonical
from restante_mail.header.fields import header_fields
from restante_mail.mime import facts, sections
from restante_mail.ranges import compress
from tests.harness.fake_sessions import FakeSessions

EPOCH = 3
BATCH_MESSAGES = 3  # small, so that answers come in several batches
CELL_OCTETS = 1_000  # a cell beyond this is cut
RESULT_OCTETS = 65_536

ROLES = {
    "Inbox": folder_pb2.FOLDER_ROLE_INBOX,
    "Sent": folder_pb2.FOLDER_ROLE_SENT,
    "Drafts": folder_pb2.FOLDER_ROLE_DRAFTS,
    "Trash": folder_pb2.FOLDER_ROLE_TRASH,
    "Junk": folder_pb2.FOLDER_ROLE_JUNK,
    "Archive": folder_pb2.FOLDER_ROLE_ARCHIVE,
}
KINDS = {
    message_pb2.SECTION_KIND_WHOLE: sections.Kind.WHOLE,
    message_pb2.SECTION_KIND_HEADER: sections.Kind.HEADER,
    message_pb2.SECTION_KIND_HEADER_FIELDS: sections.Kind.HEADER,
    message_pb2.SECTION_KIND_HEADER_FIELDS_NOT: sections.Kind.HEADER,
    message_pb2.SECTION_KIND_TEXT: sections.Kind.TEXT,
    message_pb2.SECTION_KIND_MIME: sections.Kind.MIME,
}


@dataclass
class Stored:
    uid: int
    message_id: int
    flags: int
    keywords: tuple[str, ...]
    change_number: int
    facts: facts.Facts
    content: bytes
    received_seconds: int
    received_offset_minutes: int


@dataclass
class Folder:
    folder_id: int
    path: list[str]
    uid_validity: int
    role: int = 0
    uid_next: int = 1
    recent_uid: int = 1
    change_number: int = 1
    messages: list[Stored] = field(default_factory=list)
    gone: list[tuple[int, int]] = field(default_factory=list)  # (change number, UID)
    removed: list[Stored] = field(default_factory=list)  # still readable by message id


@dataclass
class Account:
    account_id: int
    address: str
    password: str
    folders: dict[int, Folder] = field(default_factory=dict)
    subscriptions: set[str] = field(default_factory=set)
    change_number: int = 1
    version: int = 1
    quota_octets: int | None = None


class Watching:
    def __init__(self, core: MemoryCore, account: Account, folder_id: int, since: int, on_notice: OnNotice) -> None:
        self.core, self.account, self.folder_id, self.since = core, account, folder_id, since
        self.on_notice = on_notice

    def close(self) -> None:
        self.core.watchers.discard(self)


class MemoryCore:
    """A replacement of CoreLink. `calls` lists the calls by method; `fail` may raise instead of an answer."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.sessions = FakeSessions(self.accounts.get)
        self.watchers: set[Watching] = set()
        self.ended_listeners: list[Callable[[sync_pb2.SessionsEnded], None]] = []
        self.watch = self
        self.calls: list[str] = []
        self.fail: Callable[[str], None] = lambda _: None
        self.watching = True  # False: commits do not notify watchers
        self.answered: dict[bytes, Protobuf] = {}
        self.max_message_octets = 100_000
        self.before_update: Callable[[], None] = lambda: None
        self.epoch = EPOCH
        self.break_after = 1 << 40  # responses of StreamMessages
        self._next_id = 100
        for name in ("alice", "bob", "carol"):
            self.add_account(f"{name}@example.test", f"{name}-demo")

    # --- making things ---

    def add_account(self, name: str, password: str) -> Account:
        account = self.accounts[name] = Account(len(self.accounts) + 1, name, password)
        for folder_name, role in ROLES.items():
            self.add_folder(account, [folder_name], role)
            account.subscriptions.add(folder_name)
        return account

    def add_folder(self, account: Account, path: list[str], role: int = 0) -> Folder:
        folder = Folder(self._id(), path, self._id(), role)
        account.folders[folder.folder_id] = folder
        return folder

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id

    def deliver(self, name: str, content: bytes, flags: int = 0, folder_name: str = "Inbox") -> Stored:
        account = self.accounts[name]
        folder = self.find(account, [folder_name])
        now = datetime.datetime(2024, 1, 1, 9, 0, 5, tzinfo=datetime.UTC)
        stored = self._add(account, folder, content, flags, (), int(now.timestamp()), 0)
        self.commit(account)
        return stored

    def _add(
        self,
        account: Account,
        folder: Folder,
        content: bytes,
        flags: int,
        keywords: Iterable[str],
        at: int,
        offset: int,
    ) -> Stored:
        number = self.change(account, folder)
        octets = canonical.canonicalise(content).octets
        stored = Stored(
            folder.uid_next, self._id(), flags, tuple(sorted(keywords)), number, facts.scan(octets), octets, at, offset
        )
        folder.uid_next += 1
        folder.messages.append(stored)
        return stored

    def change(self, account: Account, *folders: Folder) -> int:
        account.change_number += 1
        for folder in folders:
            folder.change_number = account.change_number
        return account.change_number

    def commit(self, account: Account) -> CommitToken:
        """Notify watchers in the event loop's next turn, like a stream."""
        if self.watching:
            try:
                asyncio.get_running_loop().call_soon(self._tell, account)
            except RuntimeError:
                pass  # no event loop runs yet, so there are no watchers
        return CommitToken(mailbox_id=account.account_id, change_number=account.change_number, epoch=self.epoch)

    def _tell(self, account: Account) -> None:
        for watcher in tuple(self.watchers):
            if watcher.account is not account:
                continue
            folder = account.folders.get(watcher.folder_id)
            if folder is None:
                self.watchers.discard(watcher)
                watcher.on_notice(sync_pb2.WatchResponse(reset_reason=sync_pb2.RESET_REASON_FOLDER_GONE))
            elif folder.change_number > watcher.since:
                found = self.changes(folder, watcher.since)
                watcher.since = folder.change_number
                watcher.on_notice(sync_pb2.WatchResponse(folder=found))

    def changes(self, folder: Folder, since: int) -> FolderChanges:
        found = FolderChanges(
            folder_id=folder.folder_id,
            since_change_number=since,
            change_number=folder.change_number,
            uid_next=folder.uid_next,
            recent_uid=folder.recent_uid,
        )
        _columns(found, [message for message in folder.messages if message.change_number > since])
        gone = sorted(uid for number, uid in folder.gone if number > since)
        found.vanished_uids.extend(IdRange(first=low, last=high) for low, high in compress(gone))
        return found

    def restore(self, name: str) -> None:
        """Simulate a restore: another epoch, and a new UIDVALIDITY for every folder."""
        self.epoch += 1
        for folder in self.accounts[name].folders.values():
            folder.uid_validity = self._id()
        for watcher in tuple(self.watchers):
            self.watchers.discard(watcher)
            watcher.on_notice(sync_pb2.WatchResponse(reset_reason=sync_pb2.RESET_REASON_EPOCH_CHANGED))

    def end_sessions(self, name: str) -> None:
        """End all sessions of an account, as after a new password."""
        account = self.accounts[name]
        account.version += 1
        for listener in self.ended_listeners:
            listener(sync_pb2.SessionsEnded(account_id=account.account_id, credential_version=account.version))

    # --- CoreLink ---

    def on_sessions_ended(self, listener: Callable[[sync_pb2.SessionsEnded], None]) -> None:
        self.ended_listeners.append(listener)

    def on_resumed(self, listener: Callable[[], None]) -> None:
        """Ignore the listener: this watch never has a gap."""

    def subscribe(
        self, mailbox_id: int, folder_id: int, since: int, epoch: int, token: TokenSource, on_notice: OnNotice
    ) -> Watching:
        if epoch != self.epoch:
            reset = sync_pb2.WatchResponse(reset_reason=sync_pb2.RESET_REASON_EPOCH_CHANGED)
            asyncio.get_running_loop().call_soon(on_notice, reset)
        watcher = Watching(self, self.sessions.owner(token()), folder_id, since, on_notice)
        self.watchers.add(watcher)
        asyncio.get_running_loop().call_soon(self._tell, watcher.account)
        return watcher

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        session: bytes = b"",
        followed: Followed | None = None,
        **_: object,
    ) -> Response:
        self.calls.append(method.name)
        self.fail(method.name)
        await asyncio.sleep(0)
        if (
            followed is not None
            and (folder := self.sessions.owner(session).folders.get(followed.folder_id)) is not None
        ):
            followed.change_number = max(followed.change_number, folder.change_number)  # as the operation comes
        request_id = getattr(request, "request_id", b"")
        if request_id and request_id in self.answered:
            return self.answered[request_id]  # type: ignore[return-value]
        if method is methods.RENEW_SESSION:
            answer: Any = self.sessions.renew(session)
        else:
            answer = getattr(self, method.field)(self.sessions.owner(session) if session else None, request)
        if answer.ByteSize() > RESULT_OCTETS:
            raise errors.ResultTooLarge
        if request_id:
            self.answered[request_id] = answer
        await asyncio.sleep(0)
        return answer  # type: ignore[no-any-return]

    async def open_folder(
        self, request: folder_pb2.OpenFolderRequest, *, session: bytes, client_address: str
    ) -> AsyncIterator[folder_pb2.OpenFolderResponse]:
        self.calls.append("OpenFolder")
        folder = self.by_id(self.sessions.owner(session), request.folder_id)
        whole = folder_pb2.OpenFolderResponse(folder=self.described(self.sessions.owner(session), folder))
        rest = list(folder.messages)
        while True:
            _columns(whole.rows, rest[:BATCH_MESSAGES])
            yield whole
            rest = rest[BATCH_MESSAGES:]
            if not rest:
                return
            whole = folder_pb2.OpenFolderResponse()

    async def stream_messages(
        self, request: message_pb2.StreamMessagesRequest, *, session: bytes, client_address: str
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        self.calls.append("StreamMessages")
        self.fail("StreamMessages")
        found, sent = self.select(self.sessions.owner(session), request.messages), 0
        while found:
            if sent >= self.break_after:
                raise errors.Draining
            batch, found = found[:BATCH_MESSAGES], found[BATCH_MESSAGES:]
            rows, last = self.rows(batch, request), batch[-1]
            rests = []
            for index, cells in enumerate(rows.sections):
                octets = cells.octets[-1]
                if len(octets) <= CELL_OCTETS:
                    continue
                cells.octets[-1] = octets[:CELL_OCTETS]
                for start in range(CELL_OCTETS, len(octets), CELL_OCTETS):
                    piece = octets[start : start + CELL_OCTETS]
                    rests.append(
                        message_pb2.SectionRest(
                            message_id=last.message_id, section_index=index, offset_octets=start, octets=piece
                        )
                    )
            yield message_pb2.StreamMessagesResponse(rows=rows)
            for rest in rests:
                sent += 1
                if sent >= self.break_after:
                    raise errors.Draining
                await asyncio.sleep(0)
                yield message_pb2.StreamMessagesResponse(rest=rest)

    async def upload(
        self,
        kind: content_pb2.UploadKind.ValueType,
        chunks: AsyncIterable[bytes],
        *,
        session: bytes,
        client_address: str,
    ) -> content_pb2.UploadContentResponse:
        self.calls.append("UploadContent")
        self.fail("UploadContent")
        octets = b""
        async for chunk in chunks:
            octets += chunk
            if b"\0" in octets:
                raise errors.InvalidContent
        upload_id = b"upload %d" % self._id()
        self.answered[upload_id] = content_pb2.UploadChunkRequest(octets=octets)
        return content_pb2.UploadContentResponse(upload_id=upload_id, size_octets=len(octets))

    # --- sessions ---

    def get_mechanisms(self, _: Account | None, request: session_pb2.GetMechanismsRequest) -> Protobuf:
        return session_pb2.GetMechanismsResponse(mechanisms=["PLAIN", "LOGIN"])

    def authenticate(self, _: Account | None, request: session_pb2.AuthenticateRequest) -> Protobuf:
        assert request.scope == session_pb2.SCOPE_IMAP and request.client.listener and request.mechanism == "PLAIN"
        return self.sessions.authenticate(request)

    def get_mailbox(self, account: Account, request: mailbox_pb2.GetMailboxRequest) -> Protobuf:
        mailbox = mailbox_pb2.Mailbox(
            mailbox_id=account.account_id, epoch=self.epoch, quota_octets=account.quota_octets
        )
        mailbox.used_octets = sum(len(m.content) for folder in account.folders.values() for m in folder.messages)
        return mailbox_pb2.GetMailboxResponse(mailbox=mailbox)

    # --- folders ---

    def find(self, account: Account, path: list[str]) -> Folder:
        wanted = ["Inbox", *path[1:]] if path[0].lower() == "inbox" else path
        for folder in account.folders.values():
            if folder.path == wanted:
                return folder
        raise errors.FolderNotFound

    def target(self, account: Account, folder_id: int, path: Iterable[str]) -> Folder:
        names = list(path)
        return self.find(account, names) if names else self.by_id(account, folder_id)

    def by_id(self, account: Account, folder_id: int) -> Folder:
        if folder_id not in account.folders:
            raise errors.FolderNotFound(folder_id=folder_id)
        return account.folders[folder_id]

    def described(self, account: Account, folder: Folder) -> folder_pb2.Folder:
        return folder_pb2.Folder(
            folder_id=folder.folder_id,
            path=folder.path,
            role=folder.role,  # type: ignore[arg-type]
            change_number=folder.change_number,
            uid_validity=folder.uid_validity,
            uid_next=folder.uid_next,
            recent_uid=folder.recent_uid,
            message_count=len(folder.messages),
            unread_count=sum(not message.flags & 1 for message in folder.messages),
            subscribed="/".join(folder.path) in account.subscriptions,
        )

    def get_folder(self, account: Account, request: folder_pb2.GetFolderRequest) -> Protobuf:
        return folder_pb2.GetFolderResponse(folder=self.described(account, self.find(account, list(request.path))))

    def list_folders(self, account: Account, request: folder_pb2.ListFoldersRequest) -> Protobuf:
        everything = [self.described(account, folder) for folder in account.folders.values()]
        start = int(request.page_token or 0)
        token = str(start + 4) if start + 4 < len(everything) else ""
        return folder_pb2.ListFoldersResponse(folders=everything[start : start + 4], next_page_token=token)

    def create_folder(self, account: Account, request: folder_pb2.CreateFolderRequest) -> Protobuf:
        path = list(request.path)
        if path[0].lower() == "inbox":
            path[0] = "Inbox"
        made = None
        for depth in range(1, len(path) + 1):
            try:
                self.find(account, path[:depth])
            except errors.FolderNotFound:
                made = self.add_folder(account, path[:depth])
        if made is None:
            raise errors.FolderExists
        self.change(account, made)
        return folder_pb2.CreateFolderResponse(folder=self.described(account, made), commit=self.commit(account))

    def delete_folder(self, account: Account, request: folder_pb2.DeleteFolderRequest) -> Protobuf:
        folder = self.by_id(account, request.folder_id)
        if any(other.path[:-1] == folder.path for other in account.folders.values()):
            raise errors.FolderHasChildren
        del account.folders[folder.folder_id]
        self.change(account)
        return folder_pb2.DeleteFolderResponse(commit=self.commit(account))

    def move_folder(self, account: Account, request: folder_pb2.MoveFolderRequest) -> Protobuf:
        folder, path = self.by_id(account, request.folder_id), list(request.path)
        if any(other.path == path for other in account.folders.values()):
            raise errors.FolderExists
        old = folder.path
        if path[: len(old)] == old:
            raise errors.FolderCycle
        for depth in range(1, len(path)):
            try:
                self.find(account, path[:depth])
            except errors.FolderNotFound:
                self.add_folder(account, path[:depth])
        for other in account.folders.values():
            if other.path[: len(old)] == old:
                other.path = path + other.path[len(old) :]
        self.change(account, folder)
        return folder_pb2.MoveFolderResponse(folder=self.described(account, folder), commit=self.commit(account))

    def set_subscription(self, account: Account, request: folder_pb2.SetSubscriptionRequest) -> Protobuf:
        change = account.subscriptions.add if request.subscribed else account.subscriptions.discard
        change("/".join(request.path))
        return folder_pb2.SetSubscriptionResponse()

    def list_subscriptions(self, account: Account, request: folder_pb2.ListSubscriptionsRequest) -> Protobuf:
        paths = [folder_pb2.FolderPath(path=name.split("/")) for name in sorted(account.subscriptions)]
        return folder_pb2.ListSubscriptionsResponse(subscriptions=paths)

    def claim_recent(self, account: Account, request: folder_pb2.ClaimRecentRequest) -> Protobuf:
        folder = self.by_id(account, request.folder_id)
        first, folder.recent_uid = folder.recent_uid, folder.uid_next
        return folder_pb2.ClaimRecentResponse(recent_uid=first, uid_next=folder.uid_next)

    def read_folder_changes(self, account: Account, request: folder_pb2.ReadFolderChangesRequest) -> Protobuf:
        if request.epoch != self.epoch:
            raise errors.EpochChanged
        folder = self.by_id(account, request.folder_id)
        return folder_pb2.ReadFolderChangesResponse(changes=self.changes(folder, request.since_change_number))

    def get_change_numbers(self, _: Account | None, request: folder_pb2.GetChangeNumbersRequest) -> Protobuf:
        answer = folder_pb2.GetChangeNumbersResponse(epoch=self.epoch)
        for index, wanted in enumerate(request.folders):
            try:
                answer.change_numbers.append(
                    self.by_id(self.sessions.owner(wanted.session_token), wanted.folder_id).change_number
                )
            except errors.RestanteError as error:
                answer.change_numbers.append(0)
                answer.refused.append(folder_pb2.RefusedFolder(index=index, status=errors.to_status(error)))
        return answer

    # --- messages ---

    def select(self, account: Account, wanted: MessageSet) -> list[Stored]:
        if wanted.HasField("ids"):
            everywhere = [each for folder in account.folders.values() for each in (*folder.messages, *folder.removed)]
            found = {each.message_id: each for each in everywhere if each.message_id in wanted.ids.message_ids}
            return [found[message_id] for message_id in sorted(found)]
        folder = self.by_id(account, wanted.uids.folder_id)
        return [message for message in folder.messages if _within(message.uid, wanted.uids.ranges)]

    def purge(self, name: str) -> None:
        """Purge removed messages, as after the end of their leases."""
        for folder in self.accounts[name].folders.values():
            folder.removed.clear()

    def rows(self, messages: list[Stored], request: Any) -> message_pb2.MessageRows:
        columns, rows = set(request.columns), message_pb2.MessageRows()
        for message in messages:
            rows.uids.append(message.uid)
            rows.message_ids.append(message.message_id)
            if message_pb2.MESSAGE_COLUMN_RECEIVED_AT in columns:
                rows.received_at_seconds.append(message.received_seconds)
                rows.received_offset_minutes.append(message.received_offset_minutes)
            if message_pb2.MESSAGE_COLUMN_SIZE in columns:
                rows.size_octets.append(len(message.content))
            if message_pb2.MESSAGE_COLUMN_ENVELOPE in columns:
                rows.envelopes.append(message.facts.envelope)
            if message_pb2.MESSAGE_COLUMN_BODY_STRUCTURE in columns:
                rows.body_structures.append(message.facts.body_structure)
            if message_pb2.MESSAGE_COLUMN_BODY in columns:
                rows.bodies.append(message.facts.body)
        for section in request.sections:
            cells = rows.sections.add()
            for message in messages:
                octets = _section(message, section)
                cells.octets.append(octets or b"")
                cells.total_octets.append(-1 if octets is None else len(octets))
        return rows

    def batch_get_messages(self, account: Account, request: message_pb2.BatchGetMessagesRequest) -> Protobuf:
        return message_pb2.BatchGetMessagesResponse(rows=self.rows(self.select(account, request.messages), request))

    def append_message(self, account: Account, request: message_pb2.AppendMessageRequest) -> Protobuf:
        folder = self.target(account, request.folder_id, request.path)
        content = request.content
        if request.upload_id:
            content = self.answered[request.upload_id].octets  # type: ignore[attr-defined]
        if b"\0" in content:
            raise errors.InvalidContent
        if account.quota_octets is not None and len(content) > account.quota_octets:
            raise errors.QuotaExceeded
        at = request.received_at.seconds if request.HasField("received_at") else 1_704_067_200
        since = folder.change_number
        stored = self._add(
            account, folder, content, request.flags, request.keywords, at, request.received_offset_minutes
        )
        return message_pb2.AppendMessageResponse(
            message_id=stored.message_id,
            uid_validity=folder.uid_validity,
            uid=stored.uid,
            size_octets=len(stored.content),
            commit=self.commit(account),
            folder_id=folder.folder_id,
            since_change_number=since,
        )

    def update_messages(self, account: Account, request: message_pb2.UpdateMessagesRequest) -> Protobuf:
        self.before_update()
        folder = self.by_id(account, request.messages.uids.folder_id)
        found = self.select(account, request.messages)
        limit = request.if_change_number if request.HasField("if_change_number") else None
        modified = [message.uid for message in found if limit is not None and message.change_number > limit]
        changing = [message for message in found if message.uid not in modified]
        applied = [(message, *_applied(message, request)) for message in changing]
        applied = [each for each in applied if each[1:] != (each[0].flags, each[0].keywords)]
        number = self.change(account, folder) if applied else account.change_number
        for message, flags, keywords in applied:
            message.flags, message.keywords, message.change_number = flags, keywords, number
        return message_pb2.UpdateMessagesResponse(
            commit=self.commit(account),
            modified_uids=[IdRange(first=low, last=high) for low, high in compress(modified)],
            changes=self._asked_changes(folder, request),
            updated_count=len(changing),
        )

    def _asked_changes(self, folder: Folder, request: Any) -> FolderChanges | None:
        return self.changes(folder, request.changes_since) if request.HasField("changes_since") else None

    def _place(self, account: Account, target: Folder, messages: list[Stored], number: int, move: bool) -> list[int]:
        uids = []
        for message in messages:
            message_id = message.message_id if move else self._id()
            copied = Stored(
                target.uid_next, message_id, message.flags, message.keywords, number, message.facts, message.content,
                message.received_seconds, message.received_offset_minutes,
            )  # fmt: skip
            target.messages.append(copied)
            uids.append(target.uid_next)
            target.uid_next += 1
        return uids

    def _expected(
        self, account: Account, request: message_pb2.CopyMessagesRequest | message_pb2.MoveMessagesRequest
    ) -> list[Stored]:
        found = self.select(account, request.messages)
        if request.HasField("if_message_count") and len(found) != request.if_message_count:
            raise errors.MessageNotFound
        return found

    def copy_messages(self, account: Account, request: message_pb2.CopyMessagesRequest) -> Protobuf:
        target = self.target(account, request.target_folder_id, request.target_path)
        found = self._expected(account, request)
        answer = message_pb2.CopyMessagesResponse(target_uid_validity=target.uid_validity)
        answer.target_folder_id = target.folder_id
        if found:
            uids = self._place(account, target, found, self.change(account, target), move=False)
            _pair(answer, found, uids)
            answer.commit.CopyFrom(self.commit(account))
        return answer

    def move_messages(self, account: Account, request: message_pb2.MoveMessagesRequest) -> Protobuf:
        source = self.by_id(account, request.messages.uids.folder_id)
        target = self.target(account, request.target_folder_id, request.target_path)
        found = self._expected(account, request)
        answer = message_pb2.MoveMessagesResponse(target_uid_validity=target.uid_validity)
        answer.target_folder_id = target.folder_id
        if found:
            number = self.change(account, source, target)
            self._remove(source, found, number)
            _pair(answer, found, self._place(account, target, found, number, move=True))
            answer.commit.CopyFrom(self.commit(account))
            if (changes := self._asked_changes(source, request)) is not None:
                answer.changes.CopyFrom(changes)
        return answer

    def _remove(self, folder: Folder, messages: list[Stored], number: int) -> None:
        gone = {message.uid for message in messages}
        folder.messages = [message for message in folder.messages if message.uid not in gone]
        folder.gone += [(number, uid) for uid in gone]
        folder.removed += messages

    def delete_messages(self, account: Account, request: message_pb2.DeleteMessagesRequest) -> Protobuf:
        folder = self.by_id(account, request.messages.uids.folder_id)
        found = self.select(account, request.messages)
        if request.only_flagged_deleted:
            found = [message for message in found if message.flags & 8]
        answer = message_pb2.DeleteMessagesResponse()
        if found:
            self._remove(folder, found, self.change(account, folder))
            answer.commit.CopyFrom(self.commit(account))
        if (changes := self._asked_changes(folder, request)) is not None:
            answer.changes.CopyFrom(changes)
        return answer

    def search_messages(self, account: Account, request: message_pb2.SearchMessagesRequest) -> Protobuf:
        folder = self.by_id(account, request.folder_id)
        hits = [message.uid for message in folder.messages if _matches(message, request.restriction)]
        runs = [IdRange(first=low, last=high) for low, high in compress(hits)]
        return message_pb2.SearchMessagesResponse(uids=runs)


def _within(uid: int, runs: Iterable[IdRange]) -> bool:
    return any(run.first <= uid <= run.last for run in runs)


def _columns(into: FolderChanges, messages: list[Stored]) -> None:
    table = {(): 0}
    into.keyword_table.append(KeywordSet())
    for message in messages:
        into.uids.append(message.uid)
        into.message_ids.append(message.message_id)
        into.flags.append(message.flags)
        into.change_numbers.append(message.change_number)
        if message.keywords not in table:
            table[message.keywords] = len(table)  # type: ignore[index]
            into.keyword_table.append(KeywordSet(keywords=message.keywords))
        into.keyword_sets.append(table[message.keywords])  # type: ignore[index]


def _section(message: Stored, asked: message_pb2.Section) -> bytes | None:
    place = sections.section(message.facts.tree, list(asked.part), KINDS[asked.kind])
    if place is None:
        return None
    octets = message.content[place[0] : sum(place)]
    if asked.kind in (message_pb2.SECTION_KIND_HEADER_FIELDS, message_pb2.SECTION_KIND_HEADER_FIELDS_NOT):
        octets = header_fields(octets, asked.fields, asked.kind == message_pb2.SECTION_KIND_HEADER_FIELDS_NOT)
    start = asked.offset_octets
    return octets[start : start + asked.length_octets] if asked.HasField("length_octets") else octets[start:]


def _applied(message: Stored, request: message_pb2.UpdateMessagesRequest) -> tuple[int, tuple[str, ...]]:
    mine = {keyword.lower(): keyword for keyword in request.keywords}
    old = {keyword.lower(): keyword for keyword in message.keywords}
    if request.operation == message_pb2.FLAG_OPERATION_ADD:
        flags, kept = message.flags | request.flags, mine | old
    elif request.operation == message_pb2.FLAG_OPERATION_REMOVE:
        flags, kept = message.flags & ~request.flags, {key: old[key] for key in old.keys() - mine.keys()}
    else:
        flags, kept = request.flags, mine
    return flags, tuple(sorted(kept.values()))


def _pair(
    answer: message_pb2.CopyMessagesResponse | message_pb2.MoveMessagesResponse, found: list[Stored], uids: list[int]
) -> None:
    sources = compress(message.uid for message in found)
    answer.source_uids.extend(IdRange(first=low, last=high) for low, high in sources)
    answer.target_uids.extend(IdRange(first=low, last=high) for low, high in compress(uids))


def _matches(message: Stored, wanted: search_pb2.Restriction) -> bool:
    parsed = message_from_bytes(message.content, policy=policy.default)
    match wanted.WhichOneof("condition"):
        case "all_of":
            return all(_matches(message, part) for part in wanted.all_of.restrictions)
        case "any_of":
            return any(_matches(message, part) for part in wanted.any_of.restrictions)
        case "negation":
            return not _matches(message, wanted.negation)
        case "uids":
            return _within(message.uid, wanted.uids.ranges)
        case "flags":
            return message.flags & wanted.flags.mask == wanted.flags.value
        case "keyword":
            return wanted.keyword.keyword.lower() in (keyword.lower() for keyword in message.keywords)
        case "compare":
            size = len(message.content)
            greater = wanted.compare.comparison == search_pb2.COMPARISON_GREATER
            return size > wanted.compare.value if greater else size < wanted.compare.value
        case "header":
            values = parsed.get_all(wanted.header.name, [])
            return any(wanted.header.value.lower() in str(value).lower() for value in values)
        case "text":
            return wanted.text.value.lower() in _searched(parsed, wanted.text.field).lower()
        case "time":
            return _in_time(message, parsed, wanted.time)
    return True


def _searched(parsed: Any, where: int) -> str:
    bodies = [part.get_content() for part in parsed.walk() if part.get_content_maintype() == "text"]
    if where == search_pb2.TEXT_FIELD_BODY:
        return "\n".join(bodies)
    headers = [f"{name}: {value}" for name, value in parsed.items()]
    if where == search_pb2.TEXT_FIELD_ANY:
        return "\n".join(headers + bodies)
    name = search_pb2.TextField.Name(where).removeprefix("TEXT_FIELD_")  # type: ignore[arg-type]
    return str(parsed.get(name, ""))


def _in_time(message: Stored, parsed: Any, wanted: search_pb2.TimeRestriction) -> bool:
    if wanted.property == search_pb2.TIME_PROPERTY_SENT_AT:
        if parsed["date"] is None:
            return False
        local = parsed["date"].datetime.replace(tzinfo=datetime.UTC)
    else:
        seconds = message.received_seconds + message.received_offset_minutes * 60
        local = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    at = local.timestamp()
    if wanted.HasField("not_before") and at < wanted.not_before.seconds:
        return False
    return not (wanted.HasField("before") and at >= wanted.before.seconds)
