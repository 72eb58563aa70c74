"""SubmissionService and TransportService.AcceptSubmission: mail that users send."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection

from restante.errors import (
    InvalidContent,
    MessageTooLarge,
    UploadNotFound,
)
from restante.v1 import methods
from restante.v1.content_pb2 import UploadKind
from restante.v1.outcomes_pb2 import OutcomeReason
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
from restante.v1.transport_pb2 import AcceptSubmissionRequest, AcceptSubmissionResponse
from restante_mail.canonical import NulFound, canonicalise
from restante_mail.envelope.outcome_reasons import reason_of
from restante_mail.limits import DEFAULT_LIMITS
from restante_mail.mime.sections import Kind as SectionKind
from restante_server.api.engine.access import API_SESSION, SMTP_SUBMISSION, SUBMIT_SESSION
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.engine.writes import once_only
from restante_server.api.services import convert, drafts, pages
from restante_server.api.services.envelopes import (
    envelope_of,
    require_trace_field,
)
from restante_server.api.services.failed_addresses import failed_address
from restante_server.api.services.violations import collected
from restante_server.db.clock import now_microseconds
from restante_server.db.operation import Write
from restante_server.directory.rights import Claim
from restante_server.store import contents, messages, requests, uploads
from restante_server.store.contents import Wanted
from restante_server.transport import submission, submitted, take
from restante_server.transport.enqueue import Taken
from restante_server.transport.outbound import failed_addresses, outgoing
from restante_server.transport.outbound.failed_addresses import Failure
from restante_server.transport.outbound.outgoing import Source
from restante_server.transport.outbound.recipients import Row
from restante_server.transport.records import Envelope
from restante_server.transport.schedule import DAY
from restante_server.transport.submission import Submission, Submitter
from restante_server.transport.submitted import Submitted
from restante_server.transport.take import TakeMail

handlers = Handlers()

MAX_CONTENT_OCTETS = 512 << 10
LATEST_SEND = 30 * DAY
NO_LIMIT = (1 << 63) - 1


async def _known(call: Call, request: SubmitMessageRequest, _claims: tuple[Claim, ...]) -> SubmitMessageResponse | None:
    taken = await _taken(call, _once(call, request))
    return None if taken is None else await _answer(call, taken)


@handlers.direct(methods.SUBMIT_MESSAGE, rule=SUBMIT_SESSION, known=_known)
async def submit_message(call: Call, request: SubmitMessageRequest) -> SubmitMessageResponse:
    """See SubmissionService.SubmitMessage."""
    return await _answer(call, await _take(call, request, None))


@handlers.direct(methods.ACCEPT_SUBMISSION, rule=SMTP_SUBMISSION)
async def accept_submission(call: Call, request: AcceptSubmissionRequest) -> AcceptSubmissionResponse:
    """See TransportService.AcceptSubmission."""
    taken = await _take(call, request.submission, request.trace_field)
    return AcceptSubmissionResponse(transport_id=taken.transport_id)


async def _take(call: Call, request: SubmitMessageRequest, trace_field: str | None) -> Taken:
    """Take responsibility for a message, once for each request id. `trace_field` is a gateway's; None: by the API."""
    once = _once(call, request)
    send_at, envelope = _check(call, request, trace_field)
    taken = await _taken(call, once)
    if taken is not None:
        return taken
    transport = call.core.transport
    given = await _submission(call, request, send_at, envelope, trace_field)
    judged = await call.core.short_read(partial(submission.judge, submission=given))
    incoming = await submission.prepare(call.core.contents, transport.settings, given, judged)
    return (await transport.take(TakeMail(transport.settings, incoming, once))).taken


def _once(call: Call, request: SubmitMessageRequest) -> requests.Request:
    return once_only(request, call.caller.actor, call.caller.mailbox_id, call.now, call.sent)


async def _taken(call: Call, once: requests.Request) -> Taken | None:
    """The message that an earlier call with the same request id has taken."""
    answer = await call.core.db.read(_kept, call, once)
    return None if answer is None else take.decode(answer)


def _kept(tx: Connection, call: Call, once: requests.Request) -> bytes | None:
    """The answer that is kept for a request id. The rights are decided here: a caller that has lost them gets none."""
    call.place(tx, 0)
    return requests.find(tx, once)


def _check(call: Call, request: SubmitMessageRequest, trace_field: str | None) -> tuple[int | None, Envelope]:
    """Check the request without the store. Returns the time to send (microseconds; None: now) and the envelope.

    Raises the first error with all bad fields.
    """
    path = request.reverse_path if request.HasField("reverse_path") else call.caller.address
    send_at, envelope = 0, None
    with collected() as bad:
        if trace_field is not None:
            with bad.noting("trace_field"):
                require_trace_field(trace_field)
        bad.require(request.WhichOneof("source") is not None, "source", "must be given")
        short = len(request.content) <= MAX_CONTENT_OCTETS
        bad.require(
            short,
            "content",
            f"must have at most {MAX_CONTENT_OCTETS} octets; upload a larger message and name upload_id",
        )
        if request.HasField("send_at"):
            with bad.noting("send_at"):
                send_at = convert.microseconds(request.send_at, "send_at")
            bad.require(send_at <= call.now + LATEST_SEND, "send_at", "must be at most 30 days ahead")
        with bad.noting("reverse_path"):
            envelope = envelope_of(path, request.recipients, request.options)
    assert envelope is not None  # it was noted otherwise
    return send_at if send_at > call.now else None, envelope


async def _source(call: Call, request: SubmitMessageRequest) -> Source:
    """The message to submit.

    Raises InvalidContent, MessageTooLarge, UploadNotFound, MessageNotFound, and as drafts.write_message.
    """
    match request.WhichOneof("source"):
        case "content":
            try:
                return outgoing.source_of(canonicalise(request.content).octets)
            except NulFound as found:
                raise InvalidContent(problem=f"the message has a NUL octet, at offset {found.offset}") from None
        case "draft":
            octets = await drafts.write_message(call, request.draft)
            limit = call.core.contents.settings.max_message_octets
            if len(octets) > limit:
                raise MessageTooLarge(limit_octets=limit)
            return outgoing.source_of(octets)
        case _:
            return await call.core.db.read(_stored_source, call, request)


def _stored_source(tx: Connection, call: Call, request: SubmitMessageRequest) -> Source:
    was_checked = False
    if request.WhichOneof("source") == "upload_id":
        upload = uploads.get(tx, request.upload_id, call.caller.account_id, call.now)
        if upload.content_id is None or upload.kind != UploadKind.UPLOAD_KIND_MESSAGE:
            raise UploadNotFound
        content_id = upload.content_id
    else:
        place = call.place(tx, 0)
        content_id, _ = messages.content_of(tx, place, request.message_id)
        was_checked = messages.was_checked(tx, place, request.message_id)
    stored = contents.load(tx, [content_id])[content_id]
    most = DEFAULT_LIMITS.header_octets + 1  # `read_authorship` refuses a header above the limit
    wanted = Wanted(kind=SectionKind.HEADER)
    header = contents.cut(tx, call.core.contents.directory, stored, b"", wanted, most).octets
    return Source(header, stored=stored, was_checked=was_checked)


async def _submission(
    call: Call, request: SubmitMessageRequest, send_at: int | None, envelope: Envelope, trace_field: str | None
) -> Submission:
    caller, settings = call.caller, call.core.transport.settings
    source = await _source(call, request)
    written = outgoing.read_authorship(source, settings)
    return Submission(
        Submitter(caller.account_id, caller.mailbox_id, caller.address),
        source,
        written,
        submission.with_recipients(source, written, envelope, settings),
        call.now,
        trace_field,
        send_at,
        [request.upload_id] if request.upload_id else drafts.upload_ids(request.draft),
        request.message_id or None,
    )


async def _answer(call: Call, taken: Taken) -> SubmitMessageResponse:
    remembered = call.core.transport.settings.failed_address_microseconds

    def look(tx: Connection) -> tuple[Submitted, list[Failure]]:
        found = submitted.get(tx, call.caller.account_id, taken.transport_id)
        foreign = [row.forward_path for row in found.recipients if row.destination] if remembered else []
        return found, failed_addresses.among(tx, foreign, now_microseconds(tx) - remembered, found.accepted_at)

    found, failures = await call.core.short_read(look)
    response = SubmitMessageResponse(submission=record(found), failed_before=map(failed_address, failures))
    if taken.sent is not None:
        response.sent_message_id = taken.sent.message_id
        response.commit.CopyFrom(convert.commit_token(call, call.caller.mailbox_id, taken.sent.change_number))
    return response


@handlers.direct(methods.CANCEL_SUBMISSION, rule=API_SESSION)
async def cancel_submission(call: Call, request: CancelSubmissionRequest) -> CancelSubmissionResponse:
    """See SubmissionService.CancelSubmission."""
    settings, account_id = call.core.transport.settings, call.caller.account_id

    def cancel(tx: Connection) -> Submitted:
        return submitted.cancel(tx, settings, account_id, request.submission_id, now_microseconds(tx))

    cancelled = await call.core.db.write(Write(cancel, rows=10), deadline=call.deadline)
    return CancelSubmissionResponse(submission=record(cancelled))


@handlers.read(methods.GET_SUBMISSION, rule=API_SESSION)
def get_submission(tx: Connection, call: Call, request: GetSubmissionRequest) -> GetSubmissionResponse:
    """See SubmissionService.GetSubmission."""
    return GetSubmissionResponse(submission=record(submitted.get(tx, call.caller.account_id, request.submission_id)))


@handlers.read(methods.LIST_SUBMISSIONS, rule=API_SESSION)
def list_submissions(tx: Connection, call: Call, request: ListSubmissionsRequest) -> ListSubmissionsResponse:
    """See SubmissionService.ListSubmissions."""
    page = pages.Page.asked("submissions", request, call.result_octets)
    (before,) = page.key
    found = submitted.page(tx, call.caller.account_id, pages.number(before) if before else NO_LIMIT, page.most)
    answer = ListSubmissionsResponse()
    return page.fill(answer, answer.submissions, found, record, lambda last: (str(last.submission_id),))


def record(found: Submitted) -> SubmissionRecord:
    """The contract's record of a submission."""
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
    """The contract's record of a recipient."""
    made = SubmissionRecipient(
        forward_path=row.forward_path,
        state=RecipientState.ValueType(row.state),
        status=row.status,
        diagnostic=row.diagnostic,
        attempt_count=row.attempt_count,
        reason=OutcomeReason.ValueType(reason_of(row.status, row.diagnostic)),
    )
    if row.next_attempt_at is not None:
        made.next_attempt_at.CopyFrom(convert.timestamp(row.next_attempt_at))
    return made
