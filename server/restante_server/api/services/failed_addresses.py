"""AdminService's RPCs for addresses of other domains to which mail has failed."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.errors import InvalidArgument
from restante.v1 import methods
from restante.v1 import outcomes_pb2 as v1
from restante_mail.envelope.paths import BadPath
from restante_mail.envelope.paths import ascii_domain as parse_domain
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.db.clock import now_microseconds
from restante_server.transport.outbound import failed_addresses
from restante_server.transport.outbound.failed_addresses import Failure

handlers = Handlers()


@handlers.read(methods.LIST_FAILED_ADDRESSES, rule=access.administrators)
def list_failed_addresses(
    tx: Connection, call: Call, request: v1.ListFailedAddressesRequest
) -> v1.ListFailedAddressesResponse:
    """See AdminService.ListFailedAddresses."""
    page = pages.Page.asked(f"failed addresses {request.domain}", request, call.result_octets)
    (after,) = page.key
    since = now_microseconds(tx) - call.core.transport.settings.failed_address_microseconds
    domain = _domain(request.domain) if request.domain else ""
    found = failed_addresses.listing(tx, domain, after, since, page.most)
    answer = v1.ListFailedAddressesResponse()
    return page.fill(answer, answer.addresses, found, lambda one: failed_address(one[1]), lambda last: (last[0],))


@handlers.write(methods.CLEAR_FAILED_ADDRESSES, rule=access.administrators)
def clear_failed_addresses(
    tx: Connection, call: Call, request: v1.ClearFailedAddressesRequest
) -> v1.ClearFailedAddressesResponse:
    """See AdminService.ClearFailedAddresses."""
    match request.WhichOneof("which"):
        case "address":
            count = failed_addresses.clear(tx, [request.address])
        case "domain":
            count = failed_addresses.clear_domain(tx, _domain(request.domain))
        case "all" if request.all:
            count = failed_addresses.clear_domain(tx, "")
        case _:
            raise InvalidArgument(field="which", problem="must name an address, a domain or all")
    return v1.ClearFailedAddressesResponse(address_count=count)


def failed_address(failure: Failure) -> v1.FailedAddress:
    """The contract's form of a failure."""
    return v1.FailedAddress(
        address=failure.address,
        status=failure.status,
        diagnostic=failure.diagnostic,
        failed_at=convert.timestamp(failure.failed_at),
    )


def _domain(given: str) -> str:
    """Raises InvalidArgument."""
    try:
        return parse_domain(given)
    except BadPath as bad:
        raise InvalidArgument(field="domain", problem=bad.problem) from None
