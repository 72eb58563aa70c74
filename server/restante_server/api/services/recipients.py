"""TransportService.VerifyRecipients: the verdicts for RCPT."""

from __future__ import annotations

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
from restante_server.directory import addresses
from restante_server.directory.known import SECONDS
from restante_server.directory.lookup import AddressKind, Resolution, resolve_many
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
    try:
        call.core.contents.require_room()
    except StoreFull:
        return VerifyRecipientsResponse(verdicts=[_refused(StoreFull()) for _ in request.forward_paths])
    recipients, paths = call.core.recipients, list(request.forward_paths)
    if all(recipients.is_open(path) for path in paths):
        return VerifyRecipientsResponse(verdicts=[OPEN] * len(paths))
    generation = recipients.generation
    resolutions, inboxes = await call.core.short_read(partial(_look, paths=paths))
    for found in resolutions:
        inbox = inboxes.get(found.mailbox_id)
        recipients.keep(
            generation, found, open=found.kind is AddressKind.ALIAS or (inbox is not None and inbox.room_octets is None)
        )
    verdicts = []
    for path, found in zip(request.forward_paths, resolutions, strict=True):
        problem: RestanteError | None = _address_problem(path)
        if problem is not None:
            pass
        elif found.kind is AddressKind.FOREIGN and not call.caller.account_id:
            problem = RelayDenied(address=path)
        elif found.kind is AddressKind.UNKNOWN or (found.kind is AddressKind.LOCAL and found.mailbox_id not in inboxes):
            problem = RecipientNotFound(address=path)
        elif found.kind is AddressKind.LOCAL and not inboxes[found.mailbox_id].has_room(max(request.size_octets, 1)):
            problem = QuotaExceeded()
        taken = OPEN if recipients.is_open(path) else RecipientVerdict(accepted=True)
        verdicts.append(_refused(problem) if problem is not None else taken)
    return VerifyRecipientsResponse(verdicts=verdicts)


def _look(tx: Connection, *, paths: list[str]) -> tuple[list[Resolution], dict[int, Inbox]]:
    resolutions = resolve_many(tx, paths)
    return resolutions, deliver.inboxes(
        tx, (found.mailbox_id for found in resolutions if found.kind is AddressKind.LOCAL)
    )


def _refused(problem: RestanteError) -> RecipientVerdict:
    return RecipientVerdict(accepted=False, status=to_status(problem))


def _address_problem(path: str) -> InvalidAddress | None:
    if path.casefold() == POSTMASTER:
        return None
    try:
        addresses.parse(path)
    except InvalidAddress as problem:
        return problem
    return None
