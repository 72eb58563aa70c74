"""The operations of administrators on selected recipients of the queue, in steps of one transaction each.

A step locks the messages of some recipients, reads the recipients again and changes those whose state permits it. It
may be repeated: recipients that have changed already are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, update

from restante_server.db.effects import events
from restante_server.db.schema import transport_recipient as table
from restante_server.transport import rows, selection
from restante_server.transport.outbound import recipients
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.outbound.recipients import Postponement, Row, Settlement
from restante_server.transport.records import Origin
from restante_server.transport.reroute import reroute
from restante_server.transport.schedule import DAY
from restante_server.transport.selection import Key, Selector
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import WAITING, State

REMOVED = "4.7.0"  # RFC 3463 3.8; not the message's fault
AT_ONCE = 200  # recipients of one step
LEFT_AFTER_RELEASE = DAY  # time for attempts that a released recipient has at least

_change = (
    update(table)
    .where(table.c.transport_id == bindparam("message"), table.c.recipient_id == bindparam("recipient"))
    .values(state=bindparam("new_state"), next_attempt_at=bindparam("due_at"), expires_at=bindparam("new_expires_at"))
)


class Step(NamedTuple):
    """The outcome of one step."""

    changed: int
    leased: int  # selected, but left alone
    last: Key | None  # the place behind which the next step begins; None: this was the last


@dataclass(frozen=True, slots=True)
class Work:
    """One operation: the states that it changes, and its function of the locked messages and their recipients."""

    changes: frozenset[State]
    run: Callable[[Connection, dict[int, Origin], Sequence[Row], int], None]


def step(tx: Connection, work: Work, selector: Selector, after: Key, now: int) -> Step:
    """Run an operation on the next recipients behind `after`.

    A message's recipients belong to one step, so that its sender gets one report about them.
    """
    found = selection.keys(tx, selector, after, AT_ONCE)
    if len(found) == AT_ONCE:
        last = found[-1].transport_id
        if found[0].transport_id != last:  # the next step takes the message that may not be whole
            found = [key for key in found if key.transport_id != last]
        else:
            found = selection.keys(tx, _narrowed(selector, last), after, 1 << 20)
        more: Key | None = found[-1]
    else:
        more = None
    origins = rows.lock(tx, {key.transport_id for key in found})
    fresh = [row for row in selection.read(tx, found) if State(row.state) in selector.states]
    changing = [row for row in fresh if State(row.state) in work.changes]
    if changing:
        work.run(tx, origins, changing, now)
    leased = sum(row.state == State.LEASED for row in fresh) if State.LEASED not in work.changes else 0
    return Step(len(changing), leased, more)


def _narrowed(selector: Selector, transport_id: int) -> Selector:
    return Selector(
        transport_id,
        selector.senders,
        selector.recipients,
        selector.destination,
        selector.states,
        selector.accepted_before,
    )


def hold(by: str) -> Work:
    """Hold recipients. `by` is the administrator's name, for the trace."""

    def run(tx: Connection, origins: dict[int, Origin], chosen: Sequence[Row], now: int) -> None:
        changed = [(row, State.HELD, row.next_attempt_at or now, row.expires_at) for row in chosen]
        _write(tx, changed)
        _trace(tx, chosen, State.HELD, f"held by {by}", now)

    return Work(frozenset({State.SCHEDULED, State.PENDING}), run)


def release(by: str) -> Work:
    """Release held recipients: due now, or at their message's time."""

    def run(tx: Connection, origins: dict[int, Origin], chosen: Sequence[Row], now: int) -> None:
        changed, states = [], dict[State, list[Row]]()
        for row in chosen:
            send_at = origins[row.transport_id].send_at or 0
            state = State.SCHEDULED if send_at > now else State.PENDING
            expires_at = max(row.expires_at, now + LEFT_AFTER_RELEASE)
            changed.append((row, state, max(now, send_at), expires_at))
            states.setdefault(state, []).append(row)
        _write(tx, changed)
        for state, group in states.items():
            _trace(tx, group, state, f"released by {by}", now)
        events(tx, rows.DUE).update(origins)

    return Work(frozenset({State.HELD}), run)


def retry() -> Work:
    """Make pending recipients due now."""

    def run(tx: Connection, origins: dict[int, Origin], chosen: Sequence[Row], now: int) -> None:
        later = [Postponement(row, now, row.status, row.diagnostic) for row in chosen]
        recipients.postpone(tx, later, now, traced=False)

    return Work(frozenset({State.PENDING}), run)


def requeue(settings: TransportSettings, by: str) -> Work:
    """Resolve recipients anew."""

    def run(tx: Connection, origins: dict[int, Origin], chosen: Sequence[Row], now: int) -> None:
        reroute(tx, settings, origins, chosen, by, now)

    return Work(frozenset({State.SCHEDULED, State.PENDING, State.HELD}), run)


def remove(settings: TransportSettings, by: str, *, silently: bool) -> Work:
    """End recipients as failed with a report, or `silently` as discarded without one.

    Leased recipients are ended too; the relay's later report about them has no effect.
    """

    def run(tx: Connection, origins: dict[int, Origin], chosen: Sequence[Row], now: int) -> None:
        if silently:
            ends = [Settlement(row, State.DISCARDED, "2.0.0", f"removed from the queue by {by}") for row in chosen]
        else:
            reason = "removed from the queue by the administrator"
            ends = [Settlement(row, State.FAILED, REMOVED, reason, Action.FAILED) for row in chosen]
        recipients.settle(tx, settings, origins, ends, now)

    return Work(WAITING, run)


def _write(tx: Connection, changed: Sequence[tuple[Row, State, int, int]]) -> None:
    parameters = [
        {
            "message": row.transport_id,
            "recipient": row.recipient_id,
            "new_state": int(state),
            "due_at": due_at,
            "new_expires_at": expires_at,
        }
        for row, state, due_at, expires_at in changed
    ]
    tx.execute(_change, parameters)


def _trace(tx: Connection, chosen: Sequence[Row], state: State, detail: str, now: int) -> None:
    rows.trace(tx, [(row.transport_id, row.recipient_id, state, detail) for row in chosen], now)
