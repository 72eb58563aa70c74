"""The outbound queue: relays lease recipients by destination and report the outcome of each.

A lease gives a relay recipients of one message and one destination. Its id is a random number on their rows. The id
stays there after the report, so that the core can tell a repeated report from a lost lease.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from random import random
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, update

from restante.errors import LeaseLost
from restante_server.db.effects import events
from restante_server.db.schema import transport_message, transport_recipient
from restante_server.directory import domain_keys
from restante_server.transport import rows
from restante_server.transport.forwarding import Forwarded, Forwarding
from restante_server.transport.outbound import candidates, failed_addresses, holds, recipients
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.outbound.failed_addresses import Failure
from restante_server.transport.outbound.recipients import Postponement, Row, Settlement
from restante_server.transport.outbound.signatures import SEAL_OCTETS, SIGNATURE_OCTETS
from restante_server.transport.outbound.turns import Turns
from restante_server.transport.records import Origin
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import State

MAX_LEASE_RECIPIENTS = 100
BACK_MICROSECONDS = 60 * 1_000_000  # pause of a recipient that the relay's report left out
EXPIRED = "4.4.7"  # RFC 3463 3.5

_r = transport_recipient
_claim = (
    select(
        *rows.ORIGIN,
        transport_message.c.smtputf8,
        transport_message.c.body_8bit,
        transport_message.c.signing_domain,
        transport_message.c.tls_optional,
        transport_message.c.forwarder,
    )
    .where(transport_message.c.transport_id.in_(bindparam("ids", expanding=True)))
    .order_by(transport_message.c.transport_id)
    .with_for_update(skip_locked=True)
)
_lend = (
    update(_r)
    .where(_r.c.transport_id == bindparam("message"), _r.c.recipient_id == bindparam("recipient"))
    .values(state=int(State.LEASED), lease_id=bindparam("lease"), lease_expires_at=bindparam("until"))
)
_hold = (
    update(_r)
    .where(_r.c.transport_id == bindparam("message"), _r.c.recipient_id == bindparam("recipient"))
    .values(state=int(State.HELD))
)
_leased = (_r.c.lease_id == bindparam("lease"), _r.c.state == int(State.LEASED))
_of_lease = select(_r.c.transport_id).where(_r.c.lease_id == bindparam("lease")).limit(1)
_standing = (
    select(_r.c.lease_id)
    .where(_r.c.lease_id.in_(bindparam("leases", expanding=True)), _r.c.state == int(State.LEASED))
    .distinct()
)
_renew = (
    update(_r)
    .where(_r.c.lease_id.in_(bindparam("leases", expanding=True)), _r.c.state == int(State.LEASED))
    .values(lease_expires_at=bindparam("until"))
)
_outbound = (
    select(
        transport_message.c.transport_id,
        transport_message.c.trace_field,
        transport_message.c.content_id,
        transport_message.c.signing_domain,
        transport_message.c.forwarder,
        transport_message.c.checks,
        transport_message.c.source,
    )
    .join(_r, _r.c.transport_id == transport_message.c.transport_id)
    .where(*_leased)
    .limit(1)
)


class Lease(NamedTuple):
    """Recipients of one message and one destination, leased to a relay."""

    lease_id: int
    origin: Origin
    smtputf8: bool
    body_8bit: bool
    tls_optional: bool
    destination: str
    sender: int
    rows: tuple[Row, ...]
    expires_at: int
    added_octets: int  # at most, for its signatures or its seal
    reverse_path: str  # with which it is sent


class Outbound(NamedTuple):
    """The parts of a leased message: the field of this hop, the content, and the domain whose keys sign them."""

    transport_id: int
    trace_field: bytes
    content_id: int
    signing_domain: str  # "": they are not signed
    forwarder: str  # the domain whose key seals them if they were checked; "": nobody sends them on
    checks: bytes  # serialised results of the checks; empty: they were not checked
    source: str  # client address


class Outcome(NamedTuple):
    """The relay's outcome for one recipient of a lease."""

    recipient_id: int
    state: State  # RELAYED, FAILED, or PENDING (try again)
    status: str
    diagnostic: str
    remote_host: str
    dsn_passed_on: bool


def standing(tx: Connection, leases: Iterable[int]) -> set[int]:
    """The leases among these that have neither been reported nor lapsed."""
    wanted = sorted(set(leases))
    return {lease_id for lease_id in tx.scalars(_standing, {"leases": wanted}) if lease_id} if wanted else set()


class Leased(NamedTuple):
    """New leases, and whether there were none because another core had locked the messages."""

    leases: list[Lease]
    passed_over: bool = False


def lease(tx: Connection, now: int, turns: Turns, seconds: int, forwarding: Forwarding) -> Leased:
    """Make leases of `seconds`, as many as the relay has room for. Skips messages that another core has locked.

    Changes only the places in `turns` from which the next search goes on; the caller notes the leases after the commit.
    """
    chosen = turns.choose(candidates.find(tx, now, turns))
    if not chosen:
        return Leased([])
    claimed = {row[0]: row for row in tx.execute(_claim, {"ids": sorted({one.transport_id for one in chosen})})}
    ready = recipients.of_messages(tx, claimed, candidates.WAITS, _r.c.next_attempt_at <= now)
    due: dict[tuple[int, str], list[Row]] = {}
    for row in _not_held(tx, ready, {transport_id: row.reverse_path for transport_id, row in claimed.items()}, now):
        due.setdefault((row.transport_id, row.destination), []).append(row)
    signers = {row.signing_domain or row.forwarder for row in claimed.values()} - {""}
    signing = domain_keys.with_keys(tx, signers)
    sent_on = [Forwarded(row.reverse_path, row.forwarder) for row in claimed.values()]
    paths = dict(zip(claimed, forwarding.reverse_paths(tx, sent_on, now), strict=True))
    leases: list[Lease] = []
    until = now + seconds * 1_000_000
    for one in chosen:
        lent = due.get((one.transport_id, one.destination), [])[:MAX_LEASE_RECIPIENTS]
        if lent:
            *origin, smtputf8, body_8bit, signing_domain, tls_optional, forwarder = claimed[one.transport_id]
            facts = Origin._make(origin), smtputf8, body_8bit, tls_optional, one.destination, one.sender
            added = SIGNATURE_OCTETS if signing_domain in signing else SEAL_OCTETS if forwarder in signing else 0
            own = added, paths[one.transport_id]
            leases.append(Lease(secrets.randbits(62), *facts, tuple(lent), until, *own))
    if leases:
        lent_rows = [
            {"message": row.transport_id, "recipient": row.recipient_id, "lease": made.lease_id, "until": until}
            for made in leases
            for row in made.rows
        ]
        tx.execute(_lend, lent_rows)
    return Leased(leases, passed_over=not leases)


def _not_held(tx: Connection, ready: Sequence[Row], reverse_paths: dict[int, str], now: int) -> list[Row]:
    """The recipients under no standing hold; the others become held."""
    standing_holds = holds.load(tx)
    free, held = list[Row](), list[tuple[Row, str]]()
    for row in ready:
        name = standing_holds.name(row, reverse_paths[row.transport_id])
        if name:
            held.append((row, name))
        else:
            free.append(row)
    if held:
        tx.execute(_hold, [{"message": row.transport_id, "recipient": row.recipient_id} for row, _ in held])
        rows.trace(tx, [(row.transport_id, row.recipient_id, State.HELD, name) for row, name in held], now)
    return free


def outbound(tx: Connection, lease_id: int) -> Outbound:
    """The parts of a leased message. Raises LeaseLost."""
    row = tx.execute(_outbound, {"lease": lease_id}).one_or_none()
    if row is None:
        raise LeaseLost
    return Outbound(row.transport_id, bytes(row.trace_field), row.content_id, *row[3:5], bytes(row.checks), row.source)


def renew(tx: Connection, now: int, leases: Sequence[int], seconds: int) -> list[int]:
    """Extend leases to `seconds` from now; returns those that are lost."""
    wanted = sorted(set(leases))
    if not wanted:
        return []
    found = standing(tx, wanted)
    tx.execute(_renew, {"leases": wanted, "until": now + seconds * 1_000_000})
    return [lease_id for lease_id in leases if lease_id not in found]


def report(tx: Connection, settings: TransportSettings, lease_id: int, outcomes: Sequence[Outcome], now: int) -> None:
    """End a lease with the relay's outcomes. Recipients without one go back to the queue; a repeat changes nothing.

    Raises LeaseLost.
    """
    transport_id = tx.execute(_of_lease, {"lease": lease_id}).scalar()
    if transport_id is None:
        raise LeaseLost
    origins = rows.lock(tx, [transport_id])
    of_lease = recipients.of_messages(tx, origins, _r.c.lease_id == lease_id)
    if not of_lease:  # another relay has leased the recipients meanwhile
        raise LeaseLost
    by_id = {outcome.recipient_id: outcome for outcome in outcomes}
    settled: list[Settlement] = []
    later: list[Postponement] = []
    for row in of_lease:
        if row.state != State.LEASED:
            continue
        outcome = by_id.get(row.recipient_id)
        if outcome is None:
            later.append(Postponement(row, now + BACK_MICROSECONDS, row.status, row.diagnostic))
        elif outcome.state is State.PENDING and now < row.expires_at:
            later.append(_deferred(settings, origins[transport_id], row, outcome, now))
        else:
            settled.append(_settled(row, outcome))
    recipients.postpone(tx, later, now)
    recipients.settle(tx, settings, origins, settled, now)
    if settings.failed_address_microseconds:
        _note(tx, settled, now)
    events(tx, rows.ENDED).add(lease_id)  # the relay has room for another


def _note(tx: Connection, settled: Sequence[Settlement], now: int) -> None:
    """Remember addresses that do not exist, and forget those that took mail."""
    failed = (one for one in settled if one.state is State.FAILED)
    failed_addresses.note(tx, (Failure(one.row.forward_path, one.status, one.diagnostic, now) for one in failed))
    failed_addresses.clear(tx, (one.row.forward_path for one in settled if one.state is State.RELAYED))


def _deferred(settings: TransportSettings, origin: Origin, row: Row, outcome: Outcome, now: int) -> Postponement:
    since = origin.send_at or origin.accepted_at
    due_at = settings.schedule.next_attempt(now, row.attempt_count + 1, since, random())
    return Postponement(row, due_at, outcome.status, quoted_reply(outcome), 1)


def _settled(row: Row, outcome: Outcome) -> Settlement:
    if outcome.state is State.RELAYED:
        # RFC 3461 5.2.2: when the next server does not support DSN, this server reports that it relayed the mail.
        action = None if outcome.dsn_passed_on else Action.RELAYED
        return Settlement(row, State.RELAYED, outcome.status, outcome.diagnostic, action, outcome.remote_host, 1)
    if outcome.state is State.PENDING:  # this server gives up; the remote server's reply was temporary
        reply = f"{outcome.status} {quoted_reply(outcome)}".rstrip()
        diagnostic = f"the time for delivery attempts is over; the last reply was: {reply}"
        return Settlement(row, State.FAILED, EXPIRED, diagnostic, Action.FAILED, attempts=1)
    return Settlement(
        row, State.FAILED, outcome.status, outcome.diagnostic, Action.FAILED, outcome.remote_host, attempts=1
    )


def quoted_reply(outcome: Outcome) -> str:
    """The reply, preceded by the server that gave it."""
    return f"{outcome.remote_host}: {outcome.diagnostic}" if outcome.remote_host else outcome.diagnostic
