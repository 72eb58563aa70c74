"""Turning the envelope and octets of a message from another server into the message to accept (RFC 5321 6.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, NamedTuple

from restante.errors import InvalidAddress, MailLoop, MessageRefused, RecipientNotFound
from restante_mail.authentication import authres
from restante_mail.authentication.results import Checks
from restante_server.directory import addresses
from restante_server.directory.check_rules import CheckSettings, DomainRules
from restante_server.directory.lookup import AddressKind, Resolution
from restante_server.store.listing import listing_of
from restante_server.transport import results, route
from restante_server.transport.inbound.intake import Arrived
from restante_server.transport.inbound.judge import (
    NOTHING,
    Action,
    Claimed,
    Findings,
    Verdict,
    find,
    judge,
    local_override,
)
from restante_server.transport.records import Envelope, Incoming, Planned, message_id
from restante_server.transport.states import State

MOST_AUTHORS: Final = 20  # addresses of From whose domains are judged


def plan_recipients(envelope: Envelope, resolutions: Sequence[Resolution], arrived: Arrived) -> tuple[Planned, ...]:
    """The recipient rows; the gateway accepted each recipient at RCPT.

    Raises RecipientNotFound when no recipient is local, MailLoop when every delivery would be a loop.
    """
    if not any(found.kind in (AddressKind.LOCAL, AddressKind.ALIAS) for found in resolutions):
        raise RecipientNotFound(address=envelope.recipients[0].forward_path)
    planned = route.plan(resolutions, envelope.recipients, may_relay=False, promised=True, had=arrived.had)
    if route.loops_everywhere(planned):
        raise MailLoop(problem="the message has been delivered to every recipient before")
    return planned


def forwarder(planned: Sequence[Planned]) -> str:
    """The domain of the first alias with a target at another server, in A-labels; "": no recipient is elsewhere."""
    alias = ""
    for row in planned:
        if row.state is State.EXPANDED:
            alias = row.forward_path
        elif row.destination:
            return domain_of(alias) if "@" in alias else ""  # a bare postmaster has no domain
    return ""


def recipient_domains(envelope: Envelope) -> frozenset[str]:
    """The domains of the recipients, in A-labels."""
    return frozenset(domain_of(one.forward_path) for one in envelope.recipients)


def claimed_domains(envelope: Envelope, arrived: Arrived) -> Claimed:
    """The domains that a message claims to be from, in A-labels."""
    facts = arrived.staged.facts
    assert facts is not None  # it is a message
    authors = {domain_of(one.address) for one in facts.summary.from_[:MOST_AUTHORS]}
    return Claimed(frozenset(authors - {""}), domain_of(envelope.reverse_path))


_NOBODY: Final[Mapping[int, MessageRefused]] = MappingProxyType({})


class Judged(NamedTuple):
    """What the checks of a message mean for its recipients."""

    envelope: Envelope  # of the recipients who may have it, each with its verdict
    found: Findings = NOTHING
    verdicts: frozenset[Verdict] = frozenset()  # of these recipients' domains
    refusals: Mapping[int, MessageRefused] = _NOBODY  # of the others, by their place in the judged envelope


def judged(
    envelope: Envelope,
    checks: Checks,
    claimed: Claimed,
    rules: Mapping[str, DomainRules],
    settings: CheckSettings,
    *,
    each: bool = False,
) -> Judged:
    """The verdict for each recipient. `rules` are those of the local domains among all named ones.

    `each`: each recipient gets an answer of its own (RFC 2033 4.2), so that the domains that refuse the message may do
    so alone. Otherwise it is refused only if all recipients' domains refuse it. A recipient whose domain refuses what
    another takes gets it in Junk: after the acceptance the refusal would be a report to a sender whom nothing confirms
    (RFC 5321 6.1).
    """
    found = find(checks, claimed, rules.keys(), settings)
    if found == NOTHING:
        return Judged(envelope, found)
    domains = [domain_of(one.forward_path) for one in envelope.recipients]
    verdicts = {name: judge(found, rules.get(name, DomainRules()), settings) for name in set(domains)}
    refusing = {name for name, verdict in verdicts.items() if verdict.action is Action.REFUSE}
    if not each and len(refusing) < len(verdicts):
        refusing = set()
    marked, refusals = [], {}
    for place, (one, name) in enumerate(zip(envelope.recipients, domains, strict=True)):
        verdict = verdicts[name]
        if name in refusing:
            refusals[place] = MessageRefused(check=verdict.check, domain=verdict.domain, problem=verdict.reason)
            continue
        remark = verdict.reason
        if verdict.action is Action.REFUSE:
            remark += "; not refused, because another recipient's domain takes it"
        marked.append(one._replace(junk=verdict.action is not Action.DELIVER, remark=remark))
    taking = frozenset(verdict for name, verdict in verdicts.items() if name not in refusing)
    return Judged(envelope._replace(recipients=marked), found, taking, refusals)


def domain_of(address: str) -> str:
    """The domain of an address in A-labels; "" if it has none or is no address."""
    try:
        return addresses.ascii_domain(address.rpartition("@")[2])
    except InvalidAddress:
        return ""


def checked(incoming: Incoming, checks: Checks, found: Findings, hostname: str) -> Incoming:
    """The message with the results of its checks: in the head of each delivery, and in what is kept.

    Results that another server has reported are in its own field already.
    """
    field = b""
    if not checks.checked_by:
        field = authres.field(hostname, checks, client_address=incoming.source, override=local_override(found))
    octets = results.kept(checks)
    listing = incoming.listing._replace(checks=octets, check_results=results.packed(checks))
    return replace(incoming, trace_field=incoming.trace_field + field, checks=octets, listing=listing)


def accepted(
    envelope: Envelope, planned: tuple[Planned, ...], arrived: Arrived, *, trace_field: str, source: str, now: int
) -> Incoming:
    """The message to accept. `source` is the client's address, `now` in microseconds."""
    facts = arrived.staged.facts
    assert facts is not None  # it is a message
    return Incoming(
        reverse_path=envelope.reverse_path,
        staged=arrived.staged,
        listing=listing_of(facts),
        recipients=planned,
        accepted_at=now,
        trace_field=trace_field.encode("ascii"),
        source=source,
        forwarder=forwarder(planned),
        dsn_return=envelope.dsn_return,
        envelope_id=envelope.envelope_id,
        smtputf8=envelope.smtputf8,
        body_8bit=envelope.body_8bit,
        internet_message_id=message_id(facts),
    )
