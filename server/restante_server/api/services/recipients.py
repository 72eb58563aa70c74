"""TransportService.VerifyRecipients: the verdicts for RCPT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from restante.errors import (
    Greylisted,
    InvalidAddress,
    InvalidArgument,
    QuotaExceeded,
    RecipientNotFound,
    RelayDenied,
    RestanteError,
    StoreFull,
    to_status,
)
from restante.v1 import methods
from restante.v1.session_pb2 import Scope
from restante.v1.transport_pb2 import RecipientVerdict, VerifyRecipientsRequest, VerifyRecipientsResponse
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers, every
from restante_server.api.services import greylisting
from restante_server.api.services.failed_addresses import failed_address
from restante_server.db.clock import now_microseconds
from restante_server.directory import addresses
from restante_server.directory.known import SECONDS
from restante_server.directory.lookup import AddressKind, Resolution
from restante_server.transport.forwarding import Forwarding, is_rewritten
from restante_server.transport.inbound import deliver
from restante_server.transport.inbound.dispose import Inbox
from restante_server.transport.outbound import failed_addresses
from restante_server.transport.outbound.failed_addresses import Failure

handlers = Handlers()

MAX_VERIFIED = 100
OPEN = RecipientVerdict(accepted=True, good_for_milliseconds=int(SECONDS * 1_000))
POSTMASTER = "postmaster"  # valid without a domain (RFC 5321 4.1.1.3)

GATEWAY_OR_SENDER = access.identities("smtp", or_sessions=(Scope.SCOPE_SMTP_SUBMIT, Scope.SCOPE_API))


@handlers.direct(methods.VERIFY_RECIPIENTS, rule=GATEWAY_OR_SENDER, reads=every)
async def verify_recipients(call: Call, request: VerifyRecipientsRequest) -> VerifyRecipientsResponse:
    """See TransportService.VerifyRecipients."""
    if len(request.forward_paths) > MAX_VERIFIED:
        raise InvalidArgument(field="forward_paths", problem=f"must be at most {MAX_VERIFIED}")
    problems, failures = await _judged(call, request.forward_paths, request.size_octets, request.reverse_path)
    taken = [path for path, problem in zip(request.forward_paths, problems, strict=True) if problem is None]
    grey = await greylisting.subject_to(call, taken)
    deferrals = await greylisting.deferrals(call, request, grey)
    verdicts = []
    for path, problem in zip(request.forward_paths, problems, strict=True):
        if problem is not None:
            verdicts.append(refused(problem))
        elif path in failures:
            verdicts.append(RecipientVerdict(accepted=True, failed_before=failed_address(failures[path])))
        elif path in deferrals:
            verdicts.append(deferred(deferrals[path], request.reverse_path))
        else:
            known = path not in grey and call.core.recipients.is_open(path)
            verdicts.append(OPEN if known else RecipientVerdict(accepted=True))
    return VerifyRecipientsResponse(verdicts=verdicts)


async def judge(call: Call, paths: Sequence[str], size_octets: int, reverse_path: str) -> list[RestanteError | None]:
    """The reason to refuse each recipient of a message of this size (0: unknown), or None."""
    problems, _ = await _judged(call, paths, size_octets, reverse_path)
    return problems


async def _judged(
    call: Call, paths: Sequence[str], size_octets: int, reverse_path: str
) -> tuple[list[RestanteError | None], dict[str, Failure]]:
    """See judge; and earlier failures of recipients elsewhere by path, for a user's session."""
    try:
        call.core.contents.require_room()
    except StoreFull:
        return [StoreFull() for _ in paths], {}
    recipients = call.core.recipients
    if all(recipients.is_open(path) for path in paths):
        return [None] * len(paths), {}
    generation = recipients.generation
    transport = call.core.transport
    remembered = transport.settings.failed_address_microseconds if call.caller.account_id else 0
    look = partial(_look, paths=list(paths), forwarding=transport.forwarding, reverse_path=reverse_path)
    resolutions, inboxes, failures = await call.core.short_read(partial(look, remembered_microseconds=remembered))
    for found in resolutions:
        if is_rewritten(found.address):  # good for some reverse-paths only
            continue
        inbox = inboxes.get(found.mailbox_id)
        recipients.keep(
            generation, found, open=found.kind is AddressKind.ALIAS or (inbox is not None and inbox.room_octets is None)
        )
    problems = []
    for path, found in zip(paths, resolutions, strict=True):
        problem: RestanteError | None = _address_problem(path)
        if problem is not None:
            pass
        elif found.kind is AddressKind.FOREIGN and not call.caller.account_id:
            problem = RelayDenied(address=path)
        elif found.kind is AddressKind.UNKNOWN or (found.kind is AddressKind.LOCAL and found.mailbox_id not in inboxes):
            problem = not_found(found)
        elif found.kind is AddressKind.LOCAL and not inboxes[found.mailbox_id].has_room(max(size_octets, 1)):
            problem = QuotaExceeded()
        problems.append(problem)
    return problems, failures


def refused(problem: RestanteError) -> RecipientVerdict:
    """The verdict with a reason to refuse."""
    return RecipientVerdict(accepted=False, status=to_status(problem))


def deferred(problem: Greylisted, reverse_path: str) -> RecipientVerdict:
    """The verdict for mail of an unknown client.

    From the null path the content is refused, not the recipient: other servers verify the addresses of senders by an
    attempt without a content, and must not be delayed.
    """
    if reverse_path:
        return refused(problem)
    return RecipientVerdict(accepted=True, content_status=to_status(problem))


def not_found(found: Resolution) -> RecipientNotFound:
    """The error for an unknown recipient; for a rewritten reverse-path, with the reason."""
    if is_rewritten(found.address) and found.problem:
        return RecipientNotFound(address=found.address, problem=found.problem)
    return RecipientNotFound(address=found.address)


def _look(
    tx: Connection, *, paths: list[str], forwarding: Forwarding, reverse_path: str, remembered_microseconds: int
) -> tuple[list[Resolution], dict[int, Inbox], dict[str, Failure]]:
    now, failures = now_microseconds(tx), dict[str, Failure]()
    resolutions = forwarding.resolve(tx, paths, reverse_path, now)
    if remembered_microseconds:
        pairs = zip(paths, resolutions, strict=True)
        foreign = [path for path, found in pairs if found.kind is AddressKind.FOREIGN]
        failures = failed_addresses.by_path(tx, foreign, now - remembered_microseconds, now)
    mailbox_ids = (found.mailbox_id for found in resolutions if found.kind is AddressKind.LOCAL)
    return resolutions, deliver.inboxes(tx, mailbox_ids), failures


def _address_problem(path: str) -> InvalidAddress | None:
    if path.casefold() == POSTMASTER:
        return None
    try:
        addresses.parse(path)
    except InvalidAddress as problem:
        return problem
    return None
