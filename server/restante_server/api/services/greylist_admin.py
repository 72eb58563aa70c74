"""AdminService's RPCs for greylisting."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection

from restante.errors import InvalidArgument, InvalidPageToken
from restante.v1 import greylist_pb2 as v1
from restante.v1 import methods
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.db.clock import now_microseconds
from restante_server.db.operation import Write
from restante_server.transport.greylisting import overview, rows
from restante_server.transport.greylisting.overview import Remembered
from restante_server.transport.greylisting.rows import Pass

handlers = Handlers()


@handlers.read(methods.LIST_GREYLIST_TRIPLETS, rule=access.administrators)
def list_greylist_triplets(
    tx: Connection, call: Call, request: v1.ListGreylistTripletsRequest
) -> v1.ListGreylistTripletsResponse:
    """See AdminService.ListGreylistTriplets."""
    network = overview.network_in(request.network, "network") if request.network else ""
    recipient = overview.recipient_key(request.recipient, "recipient") if request.recipient else ""
    page = pages.Page.asked(f"greylist triplets {network} {recipient}", request, call.result_octets, parts=2)
    last_network, last_key = page.key
    after = (last_network, _octets(last_key))
    found = overview.triplets(tx, network, recipient, after, now_microseconds(tx), page.most)
    answer = v1.ListGreylistTripletsResponse()
    return page.fill(answer, answer.triplets, found, _triplet, lambda last: (last.network, last.triplet_key.hex()))


@handlers.read(methods.LIST_GREYLIST_PASSES, rule=access.administrators)
def list_greylist_passes(
    tx: Connection, call: Call, request: v1.ListGreylistPassesRequest
) -> v1.ListGreylistPassesResponse:
    """See AdminService.ListGreylistPasses."""
    page = pages.Page.asked("greylist passes", request, call.result_octets)
    (after,) = page.key
    now = now_microseconds(tx)
    found = overview.passes(tx, after, now, page.most)
    answer = v1.ListGreylistPassesResponse()
    return page.fill(answer, answer.passes, found, partial(_pass, call=call, now=now), lambda last: (last.subject,))


@handlers.write(methods.ALLOW_GREYLIST_PASS, rule=access.administrators)
def allow_greylist_pass(
    tx: Connection, call: Call, request: v1.AllowGreylistPassRequest
) -> v1.AllowGreylistPassResponse:
    """See AdminService.AllowGreylistPass."""
    now = now_microseconds(tx)
    made = overview.allow(tx, request.subject, now)
    return v1.AllowGreylistPassResponse(greylist_pass=_pass(made, call=call, now=now))


@handlers.direct(methods.CLEAR_GREYLIST, rule=access.administrators)
async def clear_greylist(call: Call, request: v1.ClearGreylistRequest) -> v1.ClearGreylistResponse:
    """Forget in steps, so that no write is long."""
    names: list[str] | None = None
    match request.WhichOneof("which"):
        case "subject":
            names = overview.names_of(request.subject)
        case "all" if request.all:
            pass
        case _:
            raise InvalidArgument(field="which", problem="must name a subject or all")
    answer = v1.ClearGreylistResponse()
    while any(step := await call.core.db.write(Write(partial(overview.clear, names=names), rows=2 * rows.AT_ONCE))):
        answer.triplet_count += step.triplets
        answer.pass_count += step.passes
    return answer


def _octets(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InvalidPageToken from error


def _triplet(one: Remembered) -> v1.GreylistTriplet:
    return v1.GreylistTriplet(
        network=one.network,
        reverse_path=one.reverse_path,
        recipient=one.recipient,
        known=one.is_known,
        first_at=convert.timestamp(one.first_at),
        used_at=convert.timestamp(one.used_at),
        expires_at=convert.timestamp(one.expires_at),
    )


def _pass(one: Pass, *, call: Call, now: int) -> v1.GreylistPass:
    return v1.GreylistPass(
        subject=one.subject,
        allowed=one.is_allowed,
        times=one.times,
        passes=one.passes(now, call.core.transport.greylist.settings),
        used_at=convert.timestamp(one.used_at),
        expires_at=None if one.expires_at is None else convert.timestamp(one.expires_at),
    )
