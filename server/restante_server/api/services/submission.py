"""SubmissionService: mail that users send."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection

from restante.errors import (
    FolderNotFound,
    InvalidArgument,
    InvalidContent,
    MessageTooLarge,
    PermissionDenied,
    RecipientNotFound,
    TooManyRecipients,
    UploadNotFound,
)
from restante.v1 import methods
from restante.v1.admin_pb2 import SentCopyPolicy
from restante.v1.content_pb2 import UploadKind
from restante.v1.submission_pb2 import (
    CancelSubmissionRequest,
    CancelSubmissionResponse,
    GetSubmissionRequest,
    GetSubmissionResponse,
    ListSubmissionsRequest,
    ListSubmissionsResponse,
    RecipientState,
    SubmissionRecipient,
    SubmissionRecord,
    SubmitMessageRequest,
    SubmitMessageResponse,
)
from restante_mail.canonical import NulFound, canonicalise
from restante_mail.limits import DEFAULT_LIMITS
from restante_mail.mime.sections import Kind as SectionKind
from restante_server.api.engine.access import API_SESSION, SUBMIT_SESSION
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.engine.writes import once_only
from restante_server.api.services import convert, drafts, pages
from restante_server.api.services.transport import (
    envelope_id,
    envelope_recipients,
    require_trace_field,
    reverse_path,
)
from restante_server.db.clock import now_microseconds
from restante_server.db.operation import Write
from restante_server.directory import accounts, addresses
from restante_server.directory.lookup import Kind, Resolution, resolve_many
from restante_server.store import contents, folders, messages, requests, uploads
from restante_server.store.contents import Wanted
from restante_server.store.folders import Role
from restante_server.store.listing import listing_of
from restante_server.store.selection import FLAG_SEEN
from restante_server.store.staging import Staged
from restante_server.transport import route, submission, take
from restante_server.transport.enqueue import Taken
from restante_server.transport.outbound import outgoing, senders
from restante_server.transport.outbound.outgoing import Source
from restante_server.transport.outbound.recipients import Row
from restante_server.transport.records import Incoming, Recipient, SentCopy, StoredMessage
from restante_server.transport.schedule import DAY
from restante_server.transport.submission import Submission
from restante_server.transport.take import TakeMail

handlers = Handlers()

MAX_CONTENT_OCTETS = 512 << 10
MAX_SUBJECT = 500  # characters of a submission's subject that are kept
LATEST_SEND = 30 * DAY
NO_LIMIT = (1 << 63) - 1


class _Sender(NamedTuple):
    """What the directory says about a submission."""

    resolutions: list[Resolution]
    copies: bool
    sent_folder_id: int | None


@handlers.direct(methods.SUBMIT_MESSAGE, rule=SUBMIT_SESSION)
async def submit_message(call: Call, request: SubmitMessageRequest) -> SubmitMessageResponse:
    """See SubmissionService.SubmitMessage."""
    once = once_only(request, call.caller.actor, call.caller.mailbox_id, call.now)
    send_at = _check(call, request)
    remembered = await call.core.db.read(requests.find, once)
    if remembered is not None:
        return await _answer(call, take.decode(remembered))
    source = await _source(call, request)
    settings = call.core.transport.settings
    written = outgoing.read_authorship(source, settings)
    given = envelope_recipients(request.recipients) or outgoing.recipients_of(source, written)
    if len(given) > settings.max_recipients:
        raise TooManyRecipients(limit=settings.max_recipients)
    path = reverse_path(request.reverse_path if request.HasField("reverse_path") else call.caller.address)
    claims = [*written.claims, *([("reverse-path", path)] if path else [])]

    def look(tx: Connection) -> _Sender:
        senders.require(tx, call.caller.account_id, claims)
        if written.is_resent:
            to = [recipient.forward_path for recipient in given]
            senders.require_resending(tx, call.caller.account_id, written.originals, to)
        return _look(tx, call, request, given)

    sender = await call.core.short_read(look)
    incoming = await _prepare(call, request, source, sender, given, path, send_at)
    mail = TakeMail(settings, incoming, once, call.core.transport.told)
    try:
        taken = await call.core.transport.take(mail)
    except FolderNotFound:  # the Sent folder went at this moment: a copy is never a reason not to send
        taken = await call.core.transport.take(replace(mail, incoming=replace(incoming, sent=None)))
    return await _answer(call, taken)


def _check(call: Call, request: SubmitMessageRequest) -> int | None:
    """Judge what needs no store; returns when it may go, None: now."""
    gateway = call.caller.identity == "smtp"
    if (request.via_smtp or request.trace_field) and not gateway:
        raise PermissionDenied(permission="via_smtp")
    if gateway:
        require_trace_field(request.trace_field)
    if request.WhichOneof("source") is None:
        raise InvalidArgument(field="source", problem="is missing")
    if len(request.content) > MAX_CONTENT_OCTETS:
        raise InvalidArgument(field="content", problem=f"more than {MAX_CONTENT_OCTETS} octets: upload it")
    if not request.HasField("send_at"):
        return None
    send_at = convert.microseconds(request.send_at)
    if send_at > call.now + LATEST_SEND:
        raise InvalidArgument(field="send_at", problem="more than 30 days ahead")
    return send_at if send_at > call.now else None


async def _source(call: Call, request: SubmitMessageRequest) -> Source:
    """The message. Raises what its form can be wrong in."""
    match request.WhichOneof("source"):
        case "content":
            try:
                return outgoing.source_of(canonicalise(request.content).octets)
            except NulFound as found:
                raise InvalidContent(problem=f"NUL at octet {found.offset}") from None
        case "draft":
            octets = await drafts.write_message(call, request.draft)
            limit = call.core.contents.settings.max_message_octets
            if len(octets) > limit:
                raise MessageTooLarge(limit_octets=limit)
            return outgoing.source_of(octets)
        case _:
            return await call.core.db.read(_stored_source, call, request)


def _stored_source(tx: Connection, call: Call, request: SubmitMessageRequest) -> Source:
    if request.WhichOneof("source") == "upload_id":
        upload = uploads.get(tx, request.upload_id, call.caller.account_id, call.now)
        if upload.content_id is None or upload.kind != UploadKind.UPLOAD_KIND_MESSAGE:
            raise UploadNotFound
        content_id = upload.content_id
    else:
        content_id, _ = messages.content_of(tx, call.caller.mailbox_id, request.message_id)
    stored = contents.load(tx, [content_id])[content_id]
    most = DEFAULT_LIMITS.header_octets + 1  # one more is refused when the authors are read
    wanted = Wanted(kind=SectionKind.HEADER)
    return Source(contents.cut(tx, call.core.contents.directory, stored, b"", wanted, most).octets, stored=stored)


def _look(tx: Connection, call: Call, request: SubmitMessageRequest, given: list[Recipient]) -> _Sender:
    for recipient in given:
        if recipient.forward_path.casefold() != "postmaster":
            addresses.parse(recipient.forward_path)
    resolutions = resolve_many(tx, [recipient.forward_path for recipient in given])
    for found in resolutions:
        if found.kind is Kind.UNKNOWN:
            raise RecipientNotFound(address=found.address)
    policy = accounts.get_by_id(tx, call.caller.account_id).sent_copy
    copies = policy == SentCopyPolicy.SENT_COPY_POLICY_ALWAYS or (
        policy != SentCopyPolicy.SENT_COPY_POLICY_NEVER and not request.via_smtp
    )
    sent_folder_id = folders.with_role(tx, call.caller.mailbox_id, Role.SENT) if copies else None
    return _Sender(resolutions, copies, sent_folder_id)


async def _prepare(
    call: Call,
    request: SubmitMessageRequest,
    source: Source,
    sender: _Sender,
    given: list[Recipient],
    path: str,
    send_at: int | None,
) -> Incoming:
    transport = call.core.transport
    moment = datetime.fromtimestamp(call.now // 1_000_000, UTC)
    header = outgoing.headers(source, transport.settings, moment, call.caller.address)
    staged = await outgoing.stage(call.core.contents, source, header.sent)
    facts = staged.facts
    assert facts is not None  # it is a message
    listing = listing_of(facts)
    sent: SentCopy | None = None
    if sender.copies and sender.sent_folder_id is not None:
        kept: Staged | None = None
        if header.kept != header.sent:
            kept = await outgoing.stage(call.core.contents, source, header.kept)
        shown = listing if kept is None or kept.facts is None else listing_of(kept.facts)
        sent = SentCopy(call.caller.mailbox_id, sender.sent_folder_id, FLAG_SEEN, shown, kept)
    trace_field = request.trace_field.encode("ascii") or outgoing.received(transport.settings, call.now)
    used = [request.upload_id] if request.upload_id else drafts.upload_ids(request.draft)
    return Incoming(
        reverse_path=path,
        staged=staged,
        listing=listing,
        recipients=route.plan(sender.resolutions, given, may_relay=True, promised=request.via_smtp),
        accepted_at=call.now,
        trace_field=trace_field,
        source=call.caller.address,
        dsn_return=request.options.dsn_return,
        envelope_id=envelope_id(request.options),
        smtputf8=request.options.smtputf8 or _international(path, given),
        body_8bit=request.options.body_8bit,
        account_id=call.caller.account_id,
        subject=facts.summary.subject.replace("\0", "").encode("utf-8", "replace").decode()[:MAX_SUBJECT],
        internet_message_id=f"<{facts.summary.message_id}>" if facts.summary.message_id else "",
        send_at=send_at,
        sent=sent,
        uploads=tuple(used),
        stored=StoredMessage(call.caller.mailbox_id, request.message_id) if request.message_id else None,
    )


def _international(path: str, given: Iterable[Recipient]) -> bool:
    """Whether an address of the envelope needs SMTPUTF8 (RFC 6531 3.1).

    A header beyond ASCII alone does not: programs that have never heard of it send such headers, and servers of all
    ages take them. Requiring it of the next server would turn accepted mail into a bounce.
    """
    return not (path.isascii() and all(one.forward_path.isascii() for one in given))


async def _answer(call: Call, taken: Taken) -> SubmitMessageResponse:
    def look(tx: Connection) -> Submission:
        return submission.get(tx, call.caller.account_id, taken.transport_id)

    response = SubmitMessageResponse(submission=record(await call.core.short_read(look)))
    if taken.sent is not None:
        response.sent_message_id = taken.sent.message_id
        response.commit.CopyFrom(convert.commit_token(call, call.caller.mailbox_id, taken.sent.change_number))
    return response


@handlers.direct(methods.CANCEL_SUBMISSION, rule=API_SESSION)
async def cancel_submission(call: Call, request: CancelSubmissionRequest) -> CancelSubmissionResponse:
    """See SubmissionService.CancelSubmission."""
    settings, account_id = call.core.transport.settings, call.caller.account_id

    def cancel(tx: Connection) -> Submission:
        return submission.cancel(tx, settings, account_id, request.submission_id, now_microseconds(tx))

    cancelled = await call.core.db.write(Write(cancel, rows=10), deadline=call.deadline)
    return CancelSubmissionResponse(submission=record(cancelled))


@handlers.read(methods.GET_SUBMISSION, rule=API_SESSION)
def get_submission(tx: Connection, call: Call, request: GetSubmissionRequest) -> GetSubmissionResponse:
    """See SubmissionService.GetSubmission."""
    return GetSubmissionResponse(submission=record(submission.get(tx, call.caller.account_id, request.submission_id)))


@handlers.read(methods.LIST_SUBMISSIONS, rule=API_SESSION)
def list_submissions(tx: Connection, call: Call, request: ListSubmissionsRequest) -> ListSubmissionsResponse:
    """See SubmissionService.ListSubmissions."""
    size = pages.size(request.page_size)
    (before,) = pages.key("submissions", request.page_token)
    start = pages.number(before) if before else NO_LIMIT
    found = submission.page(tx, call.caller.account_id, start, size + 1)
    following = pages.token("submissions", str(found[size - 1].submission_id)) if len(found) > size else ""
    return ListSubmissionsResponse(submissions=map(record, found[:size]), next_page_token=following)


def record(found: Submission) -> SubmissionRecord:
    """A submission on the wire."""
    made = SubmissionRecord(
        submission_id=found.submission_id,
        submitted_at=convert.timestamp(found.accepted_at),
        subject=found.subject,
        reverse_path=found.reverse_path,
        recipients=map(recipient, found.recipients),
    )
    if found.send_at is not None:
        made.send_at.CopyFrom(convert.timestamp(found.send_at))
    return made


def recipient(row: Row) -> SubmissionRecipient:
    """A recipient on the wire."""
    made = SubmissionRecipient(
        forward_path=row.forward_path,
        state=RecipientState.ValueType(row.state),
        status=row.status,
        diagnostic=row.diagnostic,
        attempt_count=row.attempt_count,
    )
    if row.next_attempt_at is not None:
        made.next_attempt_at.CopyFrom(convert.timestamp(row.next_attempt_at))
    return made
