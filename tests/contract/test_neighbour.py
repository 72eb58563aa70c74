"""One user's data never reaches another (docs/design.md "Promises").

Bob makes every RPC of the contract, directly, as an operation and as a stream, on alice's data: her mailbox by its id,
and her folder, message, upload, submission and lease ids, which exist in his mailbox too. No answer may contain her
data, and no row of hers may change. An RPC without an entry here fails the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from sqlalchemy import Connection, select

from restante import errors
from restante.errors import RestanteError
from restante.streams import WRITE_FAILED
from restante.v1 import (
    admin_pb2,
    content_pb2,
    directory_pb2,
    failure_reports_pb2,
    folder_pb2,
    forwarding_pb2,
    greylist_pb2,
    job_pb2,
    mailbox_pb2,
    message_pb2,
    outcomes_pb2,
    queue_pb2,
    reports_pb2,
    search_pb2,
    session_pb2,
    signing_pb2,
    submission_pb2,
    sync_pb2,
    tls_pb2,
    tls_reports_pb2,
    transport_pb2,
)
from restante.v1.message_pb2 import MatchingMessages, MessageSet
from restante.v1.session_pb2 import Scope
from restante.v1.types_pb2 import CommitToken, IdRange, MailAddress, MessageIdSet, UidSet
from restante_server.db import schema
from tests.server.api.served import (
    CONTRACT,
    STREAMING,
    UNARY_FIELDS,
    Served,
    operation,
    request_id,
    served,
    token_metadata,
)

together = pytest.mark.asyncio(loop_scope="module")

SECRET = "xyzzy-of-alice"
WHOLE = message_pb2.Section(kind=message_pb2.SECTION_KIND_WHOLE)
EVERY_COLUMN = [column for column in message_pb2.MessageColumn.values() if column]
LISTEN_SECONDS = 0.5  # to a stream without an end


@dataclass
class Holdings:
    """The ids of one user's data."""

    mailbox_id: int = 0
    account_id: int = 0
    folder_id: int = 0
    message_ids: list[int] = field(default_factory=list)
    deleted_message_id: int = 0
    upload_id: bytes = b""
    unfinished_upload_id: bytes = b""
    submission_id: int = 0
    lease: bytes = b""
    append: message_pb2.AppendMessageRequest = field(default_factory=message_pb2.AppendMessageRequest)
    page_token: str = ""
    exchange: bytes = b""
    commit: CommitToken = field(default_factory=CommitToken)


@dataclass
class World:
    """Two users of one store."""

    core: Served
    alice: Holdings
    bob: Holdings


@dataclass(frozen=True)
class Try:
    """One request of bob's, and its required end: one of these errors, or an answer when there is none."""

    request: Any
    ends: tuple[type[RestanteError], ...] = ()
    scope: int = Scope.SCOPE_API
    answer: Callable[[Any], bool] = lambda _: True
    identity: str = ""  # the gateway that makes the call, "": a native client
    anything: bool = False  # any answer is right, if alice's data does not change


async def settle(core: Served, name: str, marker: str) -> Holdings:
    """Create one of everything for a user, in the same order for each user, so that all ids are equal."""
    token = (await core.session(name)).session_token
    session = (await core.call("SessionService/GetSession", session_pb2.GetSessionRequest(), token=token)).session

    async def call(rpc: str, request: Any) -> Any:
        return await core.call(rpc, request, token=token)

    has = Holdings(mailbox_id=session.mailbox_id, account_id=session.account_id)
    create = folder_pb2.CreateFolderRequest(path=[f"{marker} plans"], request_id=request_id())
    has.folder_id = (await call("FolderService/CreateFolder", create)).folder.folder_id
    await call("FolderService/SetSubscription", folder_pb2.SetSubscriptionRequest(path=[marker], subscribed=True))
    for number in range(3):
        octets = f"From: {name}@example.test\r\nSubject: {marker}\r\n\r\n{marker} {number}\r\n".encode()
        has.append = message_pb2.AppendMessageRequest(
            folder_id=has.folder_id, content=octets, keywords=[f"${marker}"], request_id=request_id()
        )
        appended = await call("MessageService/AppendMessage", has.append)
        has.message_ids.append(appended.message_id)
        has.commit = appended.commit
    has.deleted_message_id = has.message_ids.pop()
    gone = MessageSet(ids=MessageIdSet(message_ids=[has.deleted_message_id]))
    delete = message_pb2.DeleteMessagesRequest(messages=gone, mode=message_pb2.DELETE_MODE_SOFT)
    await call("MessageService/DeleteMessages", delete)
    for last in (True, False):
        chunk = content_pb2.UploadChunkRequest(
            kind=content_pb2.UPLOAD_KIND_MESSAGE,
            octets=f"Subject: {marker}\r\n\r\nupload\r\n".encode(),
            last=last,
            request_id=request_id(),
        )
        uploaded = await call("ContentService/UploadChunk", chunk)
        has.upload_id, has.unfinished_upload_id = (
            (uploaded.upload_id, b"") if last else (has.upload_id, uploaded.upload_id)
        )
    submit = submission_pb2.SubmitMessageRequest(
        request_id=request_id(),
        content=f"From: {name}@example.test\r\nSubject: {marker}\r\n\r\n{marker}\r\n".encode(),
        recipients=[submission_pb2.EnvelopeRecipient(forward_path="someone@example.org")],
    )
    submit.send_at.FromDatetime(datetime.now(UTC) + timedelta(days=2))
    has.submission_id = (await call("SubmissionService/SubmitMessage", submit)).submission.submission_id
    query = message_pb2.QueryMessagesRequest(folder_id=has.folder_id, page_size=1)
    has.page_token = (await call("MessageService/QueryMessages", query)).next_page_token
    login = session_pb2.AuthenticateRequest(mechanism="LOGIN", response=f"{name}@example.test".encode())
    login.scope = Scope.SCOPE_API
    has.exchange = (await core.call("SessionService/Authenticate", login)).exchange
    lease = await call("MailboxService/AcquireMaildrop", mailbox_pb2.AcquireMaildropRequest())
    has.lease = lease.lease
    return has


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with served(Path(tmp_path_factory.mktemp("neighbours"))) as core:
        alice, bob = await settle(core, "alice", SECRET), await settle(core, "bob", "of-bob")
        assert (alice.folder_id, alice.message_ids) == (bob.folder_id, bob.message_ids), "ids must be equal"
        assert alice.deleted_message_id == bob.deleted_message_id
        assert alice.mailbox_id != bob.mailbox_id and alice.page_token and alice.exchange
        yield World(core, alice, bob)


# --- Bob's requests -------------------------------------------------------------------------------------------------


def against(request: Any, **more: Any) -> Callable[[World], list[Try]]:
    """A request about a mailbox: alice's by its id, which must not exist for bob, and his with equal ids of the rest.

    `request` gets the world and returns the rest of the request.
    """

    def tries(world: World) -> list[Try]:
        hers = request(world)
        hers.mailbox_id = world.alice.mailbox_id
        own = request(world)
        found = [Try(hers, (errors.MailboxNotFound,), **more), Try(own, anything=True, **more)]
        if "min_commit" in own.DESCRIPTOR.fields_by_name:
            late = request(world)
            late.min_commit.CopyFrom(world.alice.commit)
            found.append(Try(late, (errors.MailboxNotFound,), **more))
        return found

    return tries


def refused(request: Any, error: type[RestanteError] = errors.PermissionDenied, **more: Any) -> Any:
    """A request that no user may make."""
    return lambda world: [Try(request(world) if callable(request) else request, (error,), **more)]


def both(world: World) -> MessageSet:
    """Two messages by id."""
    return MessageSet(ids=MessageIdSet(message_ids=world.alice.message_ids))


def with_deleted(world: World) -> MessageSet:
    """Two messages by id, and the deleted message."""
    return MessageSet(ids=MessageIdSet(message_ids=[*world.alice.message_ids, world.alice.deleted_message_id]))


def by_uid(world: World) -> MessageSet:
    """All messages by folder and UID."""
    return MessageSet(uids=UidSet(folder_id=world.alice.folder_id, ranges=[IdRange(first=1, last=99)]))


def transfers(request: Any, messages: Callable[[World], MessageSet]) -> Callable[[World], list[Try]]:
    """A copy or move: from alice's mailbox, into it, and within it, by its id; and in bob's."""

    def tries(world: World) -> list[Try]:
        def make(**more: Any) -> Any:
            made = request(messages=messages(world), target_folder_id=world.alice.folder_id, request_id=request_id())
            for name, value in more.items():
                setattr(made, name, value)
            return made

        hers, his = world.alice.mailbox_id, world.bob.mailbox_id
        marked = [make(), make(target_mailbox_id=his), make(), make(mailbox_id=hers)]
        for at, one in enumerate(marked):
            one.messages.CopyFrom(matching(world.alice.folder_id if at % 2 else 0))
        return [
            *against(lambda _: make())(world),
            *(Try(one, answer=_touches_nothing) for one in marked[:3]),
            Try(marked[3], (errors.MailboxNotFound,)),
            Try(make(target_mailbox_id=hers), (errors.MailboxNotFound,)),
            Try(make(mailbox_id=his, target_mailbox_id=hers), (errors.MailboxNotFound,)),
            Try(make(mailbox_id=hers, target_mailbox_id=his), (errors.MailboxNotFound,)),
            Try(make(mailbox_id=hers, target_mailbox_id=hers), (errors.MailboxNotFound,)),
            Try(make(target_mailbox_id=1 << 40), (errors.MailboxNotFound,)),  # one that nobody has: the same answer
            Try(
                make(target_mailbox_id=his), answer=lambda answer: answer.commit.mailbox_id in (0, his)
            ),  # 0: nothing was left
        ]

    return tries


def hunt() -> search_pb2.Restriction:
    """A restriction that matches alice's marker in any field."""
    text = search_pb2.TextRestriction(field=search_pb2.TEXT_FIELD_ANY, value=SECRET)
    return search_pb2.Restriction(text=text)


def matching(folder_id: int = 0) -> MessageSet:
    """All messages with alice's marker, of a folder or of the mailbox."""
    return MessageSet(matching=MatchingMessages(folder_id=folder_id, restriction=hunt()))


def bulk(
    request: Callable[[World, MessageSet], Any], named: Callable[[World], MessageSet]
) -> Callable[[World], list[Try]]:
    """A bulk request about messages named by number, and about those with alice's marker, of which bob has none."""

    def tries(world: World) -> list[Try]:
        found = against(lambda world: request(world, named(world)))(world)
        for folder_id in (0, world.alice.folder_id):
            hers, own = request(world, matching(folder_id)), request(world, matching(folder_id))
            hers.mailbox_id = world.alice.mailbox_id
            found += [Try(hers, (errors.MailboxNotFound,)), Try(own, answer=_touches_nothing)]
        return found

    return tries


def _touches_nothing(answer: Any) -> bool:
    return not any(value for field, value in answer.ListFields() if field.name.endswith(("_ids", "_uids", "_count")))


def draft_with(upload_id: bytes) -> message_pb2.Draft:
    return message_pb2.Draft(
        to=[MailAddress(address="carol@example.test")],
        subject="look",
        text="at this",
        attachments=[message_pb2.Attachment(file_name="a.eml", upload_id=upload_id)],
    )


def submit(world: World, **source: Any) -> submission_pb2.SubmitMessageRequest:
    recipients = [submission_pb2.EnvelopeRecipient(forward_path="carol@example.test")]
    return submission_pb2.SubmitMessageRequest(request_id=request_id(), recipients=recipients, **source)


def submissions(world: World) -> list[Try]:
    uploaded, drafted = submit(world, upload_id=world.alice.upload_id), submit(world, draft=draft_with(b"?"))
    drafted.draft.attachments[0].upload_id = world.alice.upload_id
    forged = submit(world, content=b"From: alice@example.test\r\nSubject: no\r\n\r\nI am alice\r\n")
    posing = submit(world, content=b"From: bob@example.test\r\nSubject: no\r\n\r\nI am alice\r\n")
    posing.reverse_path = "alice@example.test"
    return [
        Try(uploaded, (errors.UploadNotFound,)),
        Try(drafted, (errors.UploadNotFound,)),
        Try(forged, (errors.SenderNotPermitted,)),
        Try(posing, (errors.SenderNotPermitted,)),
        Try(submit(world, message_id=world.alice.message_ids[0]), anything=True),  # bob's message of that id
    ]


def submissions_by_smtp(world: World) -> list[Try]:
    trace = "Received: from a by b; Mon, 23 Nov 2026 20:00:00 +0000\r\n"
    return [
        replace(
            one,
            request=transport_pb2.AcceptSubmissionRequest(submission=one.request, trace_field=trace),
            scope=Scope.SCOPE_SMTP_SUBMIT,
            identity="smtp",
        )
        for one in submissions(world)
    ]


def appends(world: World) -> list[Try]:
    again = message_pb2.AppendMessageRequest()
    again.CopyFrom(world.alice.append)  # her request with its request_id: it must run again, in his mailbox
    again.content = again.content.replace(SECRET.encode(), b"of-bob")
    again.ClearField("keywords")
    fresh = message_pb2.AppendMessageRequest(
        folder_id=world.alice.folder_id, upload_id=world.alice.upload_id, request_id=request_id()
    )
    return [
        *against(lambda _: message_pb2.AppendMessageRequest(content=b"a: b\r\n\r\n", request_id=request_id()))(world),
        Try(fresh, (errors.UploadNotFound,)),
        Try(again, answer=lambda answer: answer.commit.mailbox_id == world.bob.mailbox_id),
    ]


def leases(world: World) -> list[Try]:
    Release = mailbox_pb2.ReleaseMaildropRequest
    everything = [IdRange(first=1, last=99)]
    hers = Release(mailbox_id=world.alice.mailbox_id, lease=world.alice.lease, deleted_uids=everything)
    return [
        Try(hers, (errors.MailboxNotFound,)),
        # Harmless to repeat: a lease that is not his deletes nothing, here or there.
        Try(Release(lease=world.alice.lease, deleted_uids=everything), (errors.LeaseLost,)),
    ]


def own_session(world: World) -> Callable[[Any], bool]:
    return lambda answer: answer.session.account_id == world.bob.account_id


def authenticate(world: World) -> list[Try]:
    Request = session_pb2.AuthenticateRequest
    step = Request(mechanism="LOGIN", response=b"bob-demo", exchange=world.alice.exchange, scope=Scope.SCOPE_API)
    plain = Request(mechanism="PLAIN", response=b"alice@example.test\0bob@example.test\0bob-demo")
    plain.scope = Scope.SCOPE_API  # authorization identity alice, authentication identity bob
    return [
        Try(step, (errors.AuthenticationFailed, errors.ExchangeInvalid)),
        Try(plain, (errors.AuthenticationFailed, errors.PermissionDenied)),
    ]


def numbers(world: World) -> list[Try]:
    """The change number of her mailbox's folder between two of his own: only hers is refused."""
    alice = world.alice
    followed = [
        folder_pb2.FollowedFolder(folder_id=alice.folder_id),
        folder_pb2.FollowedFolder(mailbox_id=alice.mailbox_id, folder_id=alice.folder_id),
        folder_pb2.FollowedFolder(folder_id=alice.folder_id),
    ]

    def only_his_own(answer: Any) -> bool:
        (hers,) = answer.refused
        mine, refused, again = answer.change_numbers
        assert isinstance(errors.from_status(hers.status), errors.MailboxNotFound) and hers.index == 1
        return bool(mine and mine == again and not refused)

    return [Try(folder_pb2.GetChangeNumbersRequest(folders=followed), answer=only_his_own)]


def watch(world: World, *, fixed: bool = False) -> list[Try]:
    alice = world.alice
    wanted = [
        sync_pb2.Subscription(subscription_id=1, mailbox_id=alice.mailbox_id),
        sync_pb2.Subscription(subscription_id=2, mailbox_id=alice.mailbox_id, folder_id=alice.folder_id),
    ]

    def only_rejected(answer: Any) -> bool:
        notice = answer.notice if fixed else answer
        return isinstance(errors.from_status(notice.rejected), errors.MailboxNotFound)

    if fixed:
        return [Try(sync_pb2.WatchMailboxesRequest(subscriptions=wanted), answer=only_rejected)]
    return [Try([sync_pb2.WatchRequest(subscribe=each) for each in wanted], answer=only_rejected)]


ADMINISTRATION = {
    f"AdminService/{name}": refused(getattr(admin_pb2, f"{name}Request")(**values))
    for name, values in dict[str, dict[str, Any]](
        {
            "CreateDomain": {"name": "example.org", "request_id": b"0" * 16},
            "ListDomains": {},
            "UpdateDomain": {"name": "example.test", "catch_all": "bob@example.test"},
            "DeleteDomain": {"name": "example.test"},
            "CreateAccount": {"address": "eve@example.test", "password": "12345678", "request_id": b"0" * 16},
            "GetAccount": {"address": "alice@example.test"},
            "ListAccounts": {},
            "UpdateAccount": {"address": "alice@example.test", "enabled": False},
            "SetPassword": {"address": "alice@example.test", "password": "bobs-now!"},
            "DeleteAccount": {"address": "alice@example.test", "request_id": b"0" * 16},
            "CreateAlias": {"address": "a@example.test", "targets": ["bob@example.test"], "request_id": b"0" * 16},
            "ListAliases": {},
            "DeleteAlias": {"address": "a@example.test"},
            "TraceMessages": {"address": "alice@example.test"},
            "CheckStore": {"request_id": b"0" * 16},
            "BackupStore": {"directory": "/nowhere/at/all", "request_id": b"0" * 16},
            "GetStatistics": {},
        }
    ).items()
}

DOMAIN_KEYS = {
    f"AdminService/{name}": refused(getattr(signing_pb2, f"{name}Request")(**values))
    for name, values in dict[str, dict[str, Any]](
        {
            "CreateDomainKeys": {"domain": "example.test", "request_id": b"0" * 16},
            "ListDomainKeys": {},
            "ActivateDomainKeys": {"domain": "example.test"},
            "RevokeDomainKey": {"domain": "example.test", "selector": "rsa"},
            "DeleteDomainKey": {"domain": "example.test", "selector": "rsa"},
        }
    ).items()
}

REPORTS = {
    "AdminService/ListDmarcReports": refused(reports_pb2.ListDmarcReportsRequest()),
    "AdminService/ListDmarcReportRows": refused(reports_pb2.ListDmarcReportRowsRequest(report_id=1)),
    "AdminService/ListFailureReports": refused(failure_reports_pb2.ListFailureReportsRequest()),
    "AdminService/GetFailureReport": refused(failure_reports_pb2.GetFailureReportRequest(report_id=1)),
    "AdminService/ReplaceForwardingSecret": refused(forwarding_pb2.ReplaceForwardingSecretRequest()),
    "AdminService/ListTlsReports": refused(tls_reports_pb2.ListTlsReportsRequest()),
    "AdminService/ListTlsReportRows": refused(tls_reports_pb2.ListTlsReportRowsRequest(report_id=1)),
    "TransportService/LeaseTlsReports": refused(tls_reports_pb2.LeaseTlsReportsRequest(max_leases=1)),
    "TransportService/ReadTlsReport": refused(tls_reports_pb2.ReadTlsReportRequest(report_id=1, lease_id=1)),
    "TransportService/SettleTlsReport": refused(tls_reports_pb2.SettleTlsReportRequest(report_id=1, lease_id=1)),
}

QUEUE = {
    f"AdminService/{name}": refused(getattr(queue_pb2, f"{name}Request")(**values))
    for name, values in dict[str, dict[str, Any]](
        {
            "ListQueue": {},
            "GetQueuedMessage": {"transport_id": 1, "part": queue_pb2.QueuedPart.QUEUED_PART_CONTENT},
            "ListStandingHolds": {},
            **{
                f"{verb}Queued": {"selector": queue_pb2.QueueSelector(all=True)}
                for verb in ("Hold", "Release", "Retry", "Reroute", "Remove")
            },
        }
    ).items()
}

JOBS = {
    f"JobService/{name}": refused(getattr(job_pb2, f"{name}Request")(**values))
    for name, values in (
        {"GetJob": {"job_id": 1}, "ListJobs": {}, "ListJobFindings": {"job_id": 1}, "WatchJob": {"job_id": 1}}
        | {"CancelJob": {"job_id": 1}}
    ).items()
}

TRIES: dict[str, Callable[[World], list[Try]]] = {
    **ADMINISTRATION,
    **DOMAIN_KEYS,
    **REPORTS,
    **JOBS,
    **QUEUE,
    "SessionService/Authenticate": authenticate,
    "SessionService/RenewSession": lambda world: [
        Try(session_pb2.RenewSessionRequest(), answer=own_session(world)),
    ],
    "SessionService/Logoff": lambda world: [Try(session_pb2.LogoffRequest())],
    "SessionService/GetSession": lambda world: [Try(session_pb2.GetSessionRequest(), answer=own_session(world))],
    "SessionService/ChangePassword": lambda world: [
        Try(
            session_pb2.ChangePasswordRequest(old_password="alice-demo", new_password="mine-from-now-on"),
            (errors.AuthenticationFailed,),
        )
    ],
    "SessionService/GetServer": lambda world: [Try(session_pb2.GetServerRequest())],
    "SessionService/GetMechanisms": lambda world: [Try(session_pb2.GetMechanismsRequest())],
    "MailboxService/GetMailbox": against(lambda _: mailbox_pb2.GetMailboxRequest()),
    "MailboxService/ListMailboxes": lambda world: [
        Try(
            mailbox_pb2.ListMailboxesRequest(),
            answer=lambda answer: [one.mailbox_id for one in answer.mailboxes] == [world.bob.mailbox_id],
        )
    ],
    "MailboxService/AcquireMaildrop": against(lambda _: mailbox_pb2.AcquireMaildropRequest()),
    "MailboxService/RenewMaildrop": lambda world: [
        *against(lambda _: mailbox_pb2.RenewMaildropRequest(lease=world.alice.lease))(world),
        Try(mailbox_pb2.RenewMaildropRequest(lease=world.alice.lease), (errors.LeaseLost,)),
    ],
    "MailboxService/ReleaseMaildrop": leases,
    "FolderService/ListFolders": against(lambda _: folder_pb2.ListFoldersRequest()),
    "FolderService/GetFolder": lambda world: [
        *against(lambda _: folder_pb2.GetFolderRequest(folder_id=world.alice.folder_id))(world),
        Try(folder_pb2.GetFolderRequest(path=[f"{SECRET} plans"]), (errors.FolderNotFound,)),
    ],
    "FolderService/CreateFolder": against(
        lambda world: folder_pb2.CreateFolderRequest(
            parent_folder_id=world.alice.folder_id, path=["below"], request_id=request_id()
        )
    ),
    "FolderService/MoveFolder": against(
        lambda world: folder_pb2.MoveFolderRequest(folder_id=world.alice.folder_id, path=["moved"])
    ),
    "FolderService/UpdateFolder": against(
        lambda world: folder_pb2.UpdateFolderRequest(
            folder_id=world.alice.folder_id, role=folder_pb2.FOLDER_ROLE_UNSPECIFIED
        )
    ),
    "FolderService/GetChangeNumbers": numbers,
    "FolderService/ReadFolderChanges": against(
        lambda world: folder_pb2.ReadFolderChangesRequest(folder_id=world.alice.folder_id)
    ),
    "FolderService/ClaimRecent": against(lambda world: folder_pb2.ClaimRecentRequest(folder_id=world.alice.folder_id)),
    "FolderService/SetSubscription": against(
        lambda _: folder_pb2.SetSubscriptionRequest(path=[SECRET], subscribed=False)
    ),
    "FolderService/ListSubscriptions": against(lambda _: folder_pb2.ListSubscriptionsRequest()),
    "FolderService/OpenFolder": against(lambda world: folder_pb2.OpenFolderRequest(folder_id=world.alice.folder_id)),
    "MessageService/QueryMessages": lambda world: [
        *against(lambda _: message_pb2.QueryMessagesRequest(columns=EVERY_COLUMN))(world),
        Try(
            message_pb2.QueryMessagesRequest(restriction=hunt(), columns=EVERY_COLUMN),
            answer=lambda answer: not answer.rows.message_ids,
        ),
        Try(
            message_pb2.QueryMessagesRequest(
                folder_id=world.alice.folder_id, page_size=1, page_token=world.alice.page_token
            ),
            (errors.InvalidPageToken,),
        ),
    ],
    "MessageService/SearchMessages": lambda world: [
        *against(lambda _: message_pb2.SearchMessagesRequest(folder_id=world.alice.folder_id))(world),
        Try(
            message_pb2.SearchMessagesRequest(folder_id=world.alice.folder_id, restriction=hunt()),
            answer=lambda answer: not answer.uids,
        ),
        Try(message_pb2.SearchMessagesRequest(restriction=hunt()), answer=lambda answer: not answer.message_ids),
    ],
    "MessageService/BatchGetMessages": lambda world: [
        found
        for messages, more in (
            (both(world), {}),
            (both(world), {"mark_seen": True}),
            (with_deleted(world), {"include_removed": True}),
            (by_uid(world), {}),
            (by_uid(world), {"mark_seen": True}),
            (matching(), {}),
            (matching(world.alice.folder_id), {"mark_seen": True}),
        )
        for found in against(
            lambda _, messages=messages, more=more: message_pb2.BatchGetMessagesRequest(
                messages=messages, columns=EVERY_COLUMN, sections=[WHOLE], **more
            )
        )(world)
    ],
    "MessageService/StreamMessages": lambda world: [
        found
        for messages, removed in (
            (both(world), False),
            (with_deleted(world), True),
            (by_uid(world), False),
            (matching(), False),
            (matching(world.alice.folder_id), False),
        )
        for found in against(
            lambda _, messages=messages, removed=removed: message_pb2.StreamMessagesRequest(
                messages=messages, columns=EVERY_COLUMN, sections=[WHOLE], include_removed=removed
            )
        )(world)
    ],
    "MessageService/AppendMessage": appends,
    "MessageService/CreateDraft": lambda world: [
        *against(lambda _: message_pb2.CreateDraftRequest(draft=draft_with(b""), request_id=request_id()))(world),
        Try(
            message_pb2.CreateDraftRequest(draft=draft_with(world.alice.upload_id), request_id=request_id()),
            (errors.UploadNotFound,),
        ),
    ],
    "MessageService/UpdateMessages": bulk(
        lambda _, messages: message_pb2.UpdateMessagesRequest(
            messages=messages, operation=message_pb2.FLAG_OPERATION_REPLACE, flags=1, keywords=["$bob"]
        ),
        by_uid,
    ),
    "MessageService/CopyMessages": transfers(message_pb2.CopyMessagesRequest, by_uid),
    "MessageService/MoveMessages": transfers(message_pb2.MoveMessagesRequest, both),
    "MessageService/DeleteMessages": bulk(
        lambda _, messages: message_pb2.DeleteMessagesRequest(messages=messages, mode=message_pb2.DELETE_MODE_HARD),
        both,
    ),
    "MessageService/ListRecoverableMessages": against(lambda _: message_pb2.ListRecoverableMessagesRequest()),
    "MessageService/RecoverMessages": against(
        lambda world: message_pb2.RecoverMessagesRequest(message_ids=[world.alice.deleted_message_id])
    ),
    "MessageService/PurgeRecoverableMessages": against(
        lambda world: message_pb2.PurgeRecoverableMessagesRequest(message_ids=[world.alice.deleted_message_id])
    ),
    "FolderService/DeleteFolder": against(
        lambda world: folder_pb2.DeleteFolderRequest(folder_id=world.alice.folder_id)
    ),
    "ContentService/UploadContent": lambda world: [
        Try([content_pb2.UploadContentRequest(kind=content_pb2.UPLOAD_KIND_MESSAGE, octets=b"a: b\r\n\r\n")])
    ],
    "ContentService/UploadChunk": lambda world: [
        Try(content_pb2.UploadChunkRequest(upload_id=upload_id, octets=b"x", last=last), (errors.UploadNotFound,))
        for upload_id in (world.alice.upload_id, world.alice.unfinished_upload_id)
        for last in (False, True)
    ],
    "ContentService/GetUpload": lambda world: [
        Try(content_pb2.GetUploadRequest(upload_id=upload_id), (errors.UploadNotFound,))
        for upload_id in (world.alice.upload_id, world.alice.unfinished_upload_id)
    ],
    "ContentService/ReadContent": against(
        lambda world: content_pb2.ReadContentRequest(message_id=world.alice.message_ids[0], section=WHOLE)
    ),
    "SyncService/SyncMailbox": against(lambda _: sync_pb2.SyncMailboxRequest(columns=EVERY_COLUMN, follow=True)),
    "SyncService/Watch": watch,
    "SyncService/WatchMailboxes": lambda world: watch(world, fixed=True),
    "SubmissionService/SubmitMessage": submissions,
    "SubmissionService/CancelSubmission": lambda world: [
        Try(
            submission_pb2.CancelSubmissionRequest(submission_id=world.alice.submission_id),
            (errors.SubmissionNotFound,),
        )
    ],
    "SubmissionService/GetSubmission": lambda world: [
        Try(submission_pb2.GetSubmissionRequest(submission_id=world.alice.submission_id), (errors.SubmissionNotFound,))
    ],
    "SubmissionService/ListSubmissions": lambda world: [Try(submission_pb2.ListSubmissionsRequest())],
    "TransportService/VerifyRecipients": lambda world: [
        Try(
            transport_pb2.VerifyRecipientsRequest(forward_paths=["alice@example.test"]),
            scope=Scope.SCOPE_SMTP_SUBMIT,  # every user may send her mail
        )
    ],
    "TransportService/AcceptSubmission": submissions_by_smtp,
    "TransportService/Accept": refused([transport_pb2.AcceptRequest(acceptance_id=1)]),
    "TransportService/AcceptMessage": refused(transport_pb2.AcceptMessageRequest()),
    "TransportService/LeaseOutbound": refused(transport_pb2.LeaseOutboundRequest(max_leases=10)),
    "TransportService/ReadOutbound": refused(transport_pb2.ReadOutboundRequest(lease_id=1)),
    "TransportService/RenewLease": refused(transport_pb2.RenewLeaseRequest(lease_ids=[1])),
    "TransportService/ReportOutcome": refused(transport_pb2.ReportOutcomeRequest(lease_id=1)),
    "TransportService/GetStsPolicy": refused(tls_pb2.GetStsPolicyRequest(domain="example.net")),
    "TransportService/StoreStsPolicy": refused(
        tls_pb2.StoreStsPolicyRequest(policy=tls_pb2.StsPolicy(domain="example.net"))
    ),
    "TransportService/ReportTlsSessions": refused(tls_pb2.ReportTlsSessionsRequest(request_id=b"0" * 16)),
    "AdminService/ListFailedAddresses": refused(outcomes_pb2.ListFailedAddressesRequest()),
    "AdminService/ClearFailedAddresses": refused(outcomes_pb2.ClearFailedAddressesRequest(all=True)),
    "AdminService/ListGreylistTriplets": refused(greylist_pb2.ListGreylistTripletsRequest()),
    "AdminService/ListGreylistPasses": refused(greylist_pb2.ListGreylistPassesRequest()),
    "AdminService/AllowGreylistPass": refused(greylist_pb2.AllowGreylistPassRequest(subject="192.0.2.1")),
    "AdminService/ClearGreylist": refused(greylist_pb2.ClearGreylistRequest(all=True)),
    "AdminService/ListTlsSessions": refused(tls_pb2.ListTlsSessionsRequest()),
    "DirectoryService/ResolveNames": lambda world: [Try(directory_pb2.ResolveNamesRequest(names=[SECRET, "alice"]))],
    "DirectoryService/ListEntries": lambda world: [Try(directory_pb2.ListEntriesRequest())],
    "DirectoryService/GetEntry": lambda world: [Try(directory_pb2.GetEntryRequest(address="alice@example.test"))],
}

BATCHES = {"BatchService/Execute", "BatchService/ExecuteOnce"}  # they carry the others: each is played through them


# --- Checks ---------------------------------------------------------------------------------------------------------


def belongings(tx: Connection, has: Holdings) -> dict[str, list[str]]:
    """Every row of a user, in every table with an owner column."""
    mine = select(schema.transport_message.c.transport_id).where(
        schema.transport_message.c.account_id == has.account_id
    )
    owned = {"mailbox_id": [has.mailbox_id], "account_id": [has.account_id], "transport_id": list(tx.scalars(mine))}
    rows: dict[str, list[str]] = {}
    for table in schema.metadata.sorted_tables:
        for column, ids in owned.items():
            if column in table.c:
                found = tx.execute(select(table).where(table.c[column].in_(ids)))
                rows.setdefault(table.name, []).extend(sorted(repr(tuple(row)) for row in found))
    pieces = select(schema.upload_piece).where(schema.upload_piece.c.upload_id == has.unfinished_upload_id)
    rows["upload_piece"] = [repr(tuple(row)) for row in tx.execute(pieces)]
    return rows


async def kept(world: World) -> dict[str, list[str]]:
    found: dict[str, list[str]] = await world.core.core.db.read(lambda tx: belongings(tx, world.alice))
    return found


def holds_nothing_of_alice(world: World, answer: Any) -> None:
    octets = answer.SerializeToString()
    for secret in (SECRET.encode(), world.alice.lease, world.alice.upload_id, world.alice.unfinished_upload_id):
        assert secret not in octets, answer


def judge(world: World, one: Try, outcome: Any) -> None:
    """Check the outcome of a request: an error or a list of answers."""
    if isinstance(outcome, RestanteError):
        assert SECRET not in str(outcome)
        assert one.anything or isinstance(outcome, one.ends), (one.request, outcome)
        return
    assert one.anything or not one.ends, f"should have ended with {one.ends}: {one.request}"
    for answer in outcome:
        holds_nothing_of_alice(world, answer)
        assert one.answer(answer), answer


async def directly(world: World, rpc: str, one: Try, token: bytes) -> Any:
    try:
        return [await world.core.call(rpc, one.request, token=token, identity=one.identity)]
    except RestanteError as error:
        return error


async def in_a_batch(world: World, rpc: str, one: Try, token: bytes) -> Any:
    (result,) = await world.core.operate(operation(rpc, one.request, token=token), identity=one.identity)
    if result.HasField("status"):
        return errors.from_status(result.status)
    return [getattr(result, UNARY_FIELDS[rpc])]


async def as_a_stream(world: World, rpc: str, one: Try, token: bytes) -> Any:
    method, stub, answers = CONTRACT[rpc], world.core.stub(rpc), list[Any]()
    given: Sequence[Any] = one.request
    call = stub(iter(given) if method.client_streaming else given, metadata=token_metadata(token), timeout=20)
    try:
        if not method.server_streaming:
            return [await call]
        async with asyncio.timeout(LISTEN_SECONDS):
            async for answer in call:
                answers.append(answer)
    except TimeoutError:
        pass  # such a stream stays
    except grpc.aio.AioRpcError as error:
        if error.details() == WRITE_FAILED:  # the refusal met the request on its way, and gRPC drops the reason
            return await as_a_stream(world, rpc, one, token)
        return errors.from_rpc_error(error)
    finally:
        call.cancel()
    return answers


def test_every_rpc_of_the_contract_has_an_entry() -> None:
    assert set(TRIES) | BATCHES == set(CONTRACT)


@together
@pytest.mark.parametrize("rpc", sorted(set(TRIES) & set(UNARY_FIELDS)))
@pytest.mark.parametrize("play", [directly, in_a_batch], ids=["directly", "in a batch"])
async def test_no_call_reaches_a_neighbour(world: World, rpc: str, play: Any) -> None:
    before = await kept(world)
    for one in TRIES[rpc](world):
        token = (await world.core.session("bob", one.scope, identity=one.identity)).session_token
        judge(world, one, await play(world, rpc, one, token))
        assert await kept(world) == before, one.request


@together
@pytest.mark.parametrize("rpc", sorted(set(TRIES) & STREAMING))
async def test_no_stream_reaches_a_neighbour(world: World, rpc: str) -> None:
    before = await kept(world)
    for one in TRIES[rpc](world):
        token = (await world.core.session("bob", one.scope)).session_token
        judge(world, one, await as_a_stream(world, rpc, one, token))
        assert await kept(world) == before, one.request


@together
async def test_no_operation_follows_a_folder_of_a_neighbours(world: World) -> None:
    bob = (await world.core.session("bob")).session_token
    own = folder_pb2.GetFolderRequest(folder_id=world.bob.folder_id)
    hers = {"followed_mailbox_id": world.alice.mailbox_id, "followed_folder_id": world.alice.folder_id}
    (result,) = await world.core.operate(operation("FolderService/GetFolder", own, token=bob, **hers))
    assert not result.HasField("status") and not result.followed_change_number


@together
async def test_a_watcher_of_an_equal_folder_hears_nothing_of_the_neighbours(world: World) -> None:
    bob = (await world.core.session("bob")).session_token
    alice = (await world.core.session("alice")).session_token
    inbox = sync_pb2.Subscription(subscription_id=1, folder_id=1, since_change_number=10_000)
    call = world.core.stub("SyncService/WatchMailboxes")(
        sync_pb2.WatchMailboxesRequest(subscriptions=[inbox]), metadata=token_metadata(bob)
    )
    assert (await call.read()).notice.subscribed == 10_000
    append = message_pb2.AppendMessageRequest(folder_id=1, content=b"a: b\r\n\r\n", request_id=request_id())
    await world.core.call("MessageService/AppendMessage", append, token=alice)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(LISTEN_SECONDS):
            await call.read()
    call.cancel()


@together
async def test_a_session_of_one_kind_of_client_is_no_good_to_another(world: World) -> None:
    """A token leaked from a gateway gives no access elsewhere."""
    by_gateway = (await world.core.session("alice", Scope.SCOPE_IMAP, identity="imap")).session_token
    native = (await world.core.session("alice")).session_token
    request = mailbox_pb2.GetMailboxRequest()
    for token, identity in ((by_gateway, ""), (by_gateway, "pop3"), (native, "imap"), (native, "admin")):
        with pytest.raises(errors.InvalidSession):
            await world.core.call("MailboxService/GetMailbox", request, token=token, identity=identity)
        batch = operation("MailboxService/GetMailbox", request, token=token)
        (result,) = await world.core.operate(batch, identity=identity)
        assert errors.from_status(result.status).reason == "INVALID_SESSION"
