"""The limits on an account's scheduled mail, whose contents the store keeps until the send time."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, exists, func, select

from restante.errors import AccountLimitReached
from restante_server.db.schema import transport_message, transport_recipient
from restante_server.transport.records import Incoming
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import State

RETRY_SECONDS = 60.0

_m, _r = transport_message, transport_recipient
_waiting = select(func.count(), func.coalesce(func.sum(_m.c.size_octets), 0)).where(
    _m.c.account_id == bindparam("account"),
    _m.c.send_at > bindparam("now"),
    exists().where(_r.c.transport_id == _m.c.transport_id, _r.c.state == int(State.SCHEDULED)),
)


class ScheduledMail:
    """Counts the scheduled mail of accounts, in the store and in the current set, within one transaction.

    The transaction must have locked the accounts' mailboxes.
    """

    def __init__(self, tx: Connection, settings: TransportSettings) -> None:
        self._tx, self._settings = tx, settings
        self._held: dict[int, tuple[int, int]] = {}  # messages and octets by account

    def add(self, item: Incoming) -> None:
        """Count one more message. When it raises AccountLimitReached, the message is not counted."""
        if item.send_at is None or item.account_id is None:
            return
        if item.account_id not in self._held:
            where = {"account": item.account_id, "now": item.accepted_at}
            count, octets = self._tx.execute(_waiting, where).one()
            self._held[item.account_id] = count, int(octets)
        count, octets = self._held[item.account_id]
        count, octets = count + 1, octets + item.size_octets
        self._within("scheduled", count, self._settings.max_scheduled)
        self._within("scheduled_octets", octets, self._settings.max_scheduled_octets)
        self._held[item.account_id] = count, octets

    def _within(self, resource: str, value: int, limit: int) -> None:
        if value > limit:
            raise AccountLimitReached(resource=resource, limit=limit, retry_seconds=RETRY_SECONDS)
