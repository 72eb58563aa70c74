"""Greylisting at RCPT, for VerifyRecipients (docs/design.md "Greylisting")."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from restante.errors import Greylisted, InvalidArgument
from restante.v1.greylist_pb2 import ClientEvidence
from restante.v1.transport_pb2 import VerifyRecipientsRequest
from restante_process.addresses import in_networks, parse_address
from restante_server.api.engine.call import Call
from restante_server.api.services.judgement import domain_rules
from restante_server.directory import addresses
from restante_server.directory.lookup import ROLES
from restante_server.transport.acceptance import domain_of
from restante_server.transport.forwarding import is_rewritten
from restante_server.transport.greylisting.policy import SECOND, Decision, Outcome, passes_check
from restante_server.transport.greylisting.triplet import Triplet, network_of, reduced
from restante_server.transport.results import client_results_of

log = logging.getLogger(__name__)

LONGEST_SHOWN: Final = 100  # characters of an address in the log


async def subject_to(call: Call, paths: Sequence[str]) -> frozenset[str]:
    """Those of the accepted recipients whose domain has greylisting. Their verdicts hold for one client only.

    `postmaster` and `abuse` are never delayed: mail to them is about problems such as this one. A rewritten path of
    ours (SRS) has a hash, which shows that we have sent the message that comes back. Users are never delayed.
    """
    if call.caller.account_id:
        return frozenset()
    domains = {path: domain_of(path) for path in paths}
    rules = await domain_rules(call, frozenset(domains.values()) - {""})
    return frozenset(
        path
        for path, name in domains.items()
        if name in rules and rules[name].greylisting and not is_rewritten(path) and not _is_role(path)
    )


async def deferrals(call: Call, request: VerifyRecipientsRequest, paths: frozenset[str]) -> Mapping[str, Greylisted]:
    """The recipients of `subject_to` whose mail is deferred now. Raises InvalidArgument."""
    settings, client = call.core.transport.greylist.settings, request.client_address
    if not paths or not request.HasField("evidence") or not client or in_networks(client, settings.exempt):
        return {}
    try:
        address = parse_address(client)
    except ValueError:
        raise InvalidArgument(field="client_address", problem="must be an IP address") from None
    ordered = sorted(paths)
    if _passes_check(request.evidence, call):
        made = [Decision(Outcome.PASSING)] * len(ordered)
    else:
        network, sender = network_of(address), reduced(request.reverse_path)
        triplets = [Triplet(network, sender, addresses.key(path)) for path in ordered]
        made = await call.core.transport.greylist.decide(address, triplets, call.core.short_read)
    found = {}
    for path, decision in zip(ordered, made, strict=True):
        call.core.transport.figures.greylisted(decision.outcome.value)
        if decision.outcome.is_deferred:
            seconds = -(-decision.wait // SECOND)
            found[path] = Greylisted(seconds=seconds)
            _log(decision.outcome, client, request.reverse_path, path, f"; a retry passes in {seconds} s")
        elif decision.outcome is Outcome.RETRIED:
            _log(decision.outcome, client, request.reverse_path, path, "")
    return found


def _passes_check(evidence: ClientEvidence, call: Call) -> bool:
    spf, reverse_dns = client_results_of(evidence, "evidence")
    return passes_check(spf, reverse_dns, call.core.transport.greylist.settings)


def _is_role(path: str) -> bool:
    key = addresses.key(path)
    return addresses.split_key(addresses.without_detail(key) or key)[0] in ROLES


def _log(outcome: Outcome, client: str, reverse_path: str, path: str, more: str) -> None:
    log.info(
        "greylisting: %s: client %s, from <%s> to <%s>%s",
        outcome.value, client, reverse_path[:LONGEST_SHOWN], path[:LONGEST_SHOWN], more,
    )  # fmt: skip
