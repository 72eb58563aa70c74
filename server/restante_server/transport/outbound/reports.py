"""Reports to senders, made in the transaction that settles (or delays) a recipient (RFC 3461, RFC 3464).

A report is a message from the null path. Its recipient waits like any other, for the local delivery or for a relay. It
was not accepted at RCPT, so a full mailbox fails it. Mail from the null path gets no report: a failed report is only
traced (RFC 5321 6.1).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import Connection

from restante_mail.mime.sections import Kind
from restante_server.directory import domains
from restante_server.store import contents
from restante_server.store.contents import Wanted
from restante_server.store.listing import EPOCH
from restante_server.transport.outbound import dsn, generated
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.records import Origin
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import Notify, Return, wants

_CONDITIONS = {
    Action.FAILED: Notify.FAILURE,
    Action.DELAYED: Notify.DELAY,
    Action.DELIVERED: Notify.SUCCESS,
    Action.RELAYED: Notify.SUCCESS,
    Action.EXPANDED: Notify.SUCCESS,
}


# RFC 3463 3.5, and Exchange's code for the same. The report on a loop returns only the header, whatever RET requests:
# a sender may forge a loop to have the message sent to its reverse-path, and a real loop forwards each report again.
LOOPS = frozenset({"5.4.6", "5.4.14"})


class Notice(NamedTuple):
    """The final state or the delay of one recipient, of which the sender may want a report."""

    action: Action
    forward_path: str
    original_recipient: str
    notify: int
    status: str
    diagnostic: str = ""
    remote_host: str = ""
    retried_until: int | None = None  # microseconds

    @property
    def wanted(self) -> bool:
        return wants(self.notify, _CONDITIONS[self.action])


def send(
    tx: Connection, settings: TransportSettings, origin: Origin, content_id: int, notices: Iterable[Notice], now: int
) -> bool:
    """Make the wanted reports, one for each action; returns whether there is one.

    `content_id` is the content of the message and must still have its octets.
    """
    if not origin.reverse_path:  # RFC 5321 6.1: no report about a report
        return False
    chosen = sorted((notice for notice in notices if notice.wanted), key=lambda notice: notice.action.value)
    for action, group in groupby(chosen, key=lambda notice: notice.action):
        _send(tx, settings, origin, content_id, action, list(group), now)
    return bool(chosen)


def _send(
    tx: Connection,
    settings: TransportSettings,
    origin: Origin,
    content_id: int,
    action: Action,
    notices: Sequence[Notice],
    now: int,
) -> None:
    planned = generated.recipients(tx, [origin.reverse_path])
    whole = (
        action is Action.FAILED
        and origin.dsn_return == Return.FULL
        and origin.size_octets <= settings.whole_report_octets
        and not any(notice.status in LOOPS for notice in notices)
    )
    # Another server may accept only 7-bit content; servers with SMTPUTF8 accept 8-bit content too.
    is_8bit_safe = not origin.reverse_path.isascii() or not any(one.destination for one in planned)
    returned, whole = _returned(tx, settings, content_id, whole, is_8bit_safe)
    message_id = f"<{secrets.token_hex(16)}@{settings.hostname}>"
    octets = dsn.build(
        dsn.Report(
            reporting_mta=settings.hostname,
            postmaster=f"postmaster@{domains.oldest(tx) or settings.hostname}",
            log_id=str(origin.transport_id),
            to=origin.reverse_path,
            envelope_id=origin.envelope_id,
            arrived_at=_moment(origin.accepted_at),
            now=_moment(now),
            message_id=message_id,
            boundary=f"report-{secrets.token_hex(16)}",
            recipients=[_reported(notice) for notice in notices],
            returned=returned,
            returned_whole=whole,
        )
    )
    source = f"report on {origin.transport_id}"
    generated.send(tx, settings, octets, planned, source=source, message_id=message_id, now=now)


def _reported(notice: Notice) -> dsn.Reported:
    return dsn.Reported(
        final_recipient=notice.forward_path,
        original_recipient=notice.original_recipient,
        action=notice.action,
        status=notice.status,
        diagnostic="" if notice.action is Action.DELIVERED else notice.diagnostic,
        remote_host=notice.remote_host,
        will_retry_until=_moment(notice.retried_until) if notice.retried_until is not None else None,
    )


def _returned(
    tx: Connection, settings: TransportSettings, content_id: int, whole: bool, is_8bit_safe: bool
) -> tuple[bytes, bool]:
    """The message (True) or its header (False), bounded. Returns a message with 8-bit octets only if `is_8bit_safe`."""
    stored = contents.load(tx, [content_id])[content_id]
    if whole:
        limit = settings.whole_report_octets
        octets = contents.cut(tx, settings.contents, stored, b"", Wanted(), limit).octets
        if is_8bit_safe or octets.isascii():
            return octets, True
    limit = settings.report_header_octets
    octets = contents.cut(tx, settings.contents, stored, b"", Wanted(kind=Kind.HEADER), limit).octets
    return octets[: octets.rfind(b"\r\n") + 2], False  # whole lines only


def _moment(microseconds: int) -> datetime:
    return (EPOCH + timedelta(microseconds=microseconds)).astimezone(UTC)
