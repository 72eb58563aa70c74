"""TransportService.VerifyRecipients: the verdicts for RCPT."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Connection

from restante.errors import (
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
from restante_server.db.clock import now_microseconds
from restante_server.directory import addresses
from restante_server.directory.known import SECONDS
from restante_server.directory.lookup import AddressKind, Resolution
from restante_server.transport.forwarding import Forwarding, is_rewritten
from restante_server.transport.inbound import deliver
from restante_server.transport.inbound.dispose import Inbox

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
    problems = await judge(call, request.forward_paths, request.size_octets, request.reverse_path)
    verdicts = []
    for path, problem in zip(request.forward_paths, problems, strict=True):
        if problem is not None:
            verdicts.append(refused(problem))
        else:
            verdicts.append(OPEN if call.core.recipients.is_open(path) else RecipientVerdict(accepted=True))
    return VerifyRecipientsResponse(verdicts=verdicts)


async def judge(call: Call, paths: Sequence[str], size_octets: int, reverse_path: str) -> list[RestanteError | None]:
    """The reason to refuse each recipient of a message of this size (0: unknown), or None."""
    try:
        call.core.contents.require_room()
    except StoreFull:
        return [StoreFull() for _ in paths]
    recipients = call.core.recipients
    if all(recipients.is_open(path) for path in paths):
        return [None] * len(paths)
    generation = recipients.generation
    look = partial(_look, paths=list(paths), forwarding=call.core.transport.forwarding, reverse_path=reverse_path)
    resolutions, inboxes = await call.core.short_read(look)
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
    return problems


def refused(problem: RestanteError) -> RecipientVerdict:
    """The verdict with a reason to refuse."""
    return RecipientVerdict(accepted=False, status=to_status(problem))


def not_found(found: Resolution) -> RecipientNotFound:
    """The error for an unknown recipient; for a rewritten reverse-path, with the reason."""
    if is_rewritten(found.address) and found.problem:
        return RecipientNotFound(address=found.address, problem=found.problem)
    return RecipientNotFound(address=found.address)


def _look(
    tx: Connection, *, paths: list[str], forwarding: Forwarding, reverse_path: str
) -> tuple[list[Resolution], dict[int, Inbox]]:
    resolutions = forwarding.resolve(tx, paths, reverse_path, now_microseconds(tx))
    return resolutions, deliver.inboxes(
        tx, (found.mailbox_id for found in resolutions if found.kind is AddressKind.LOCAL)
    )


def _address_problem(path: str) -> InvalidAddress | None:
    if path.casefold() == POSTMASTER:
        return None
    try:
        addresses.parse(path)
    except InvalidAddress as problem:
        return problem
    return None
