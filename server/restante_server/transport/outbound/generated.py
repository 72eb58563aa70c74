"""Sending a message that this server has written itself, such as a report, in the caller's transaction.

It comes from the null path, so that its failure causes no further mail (RFC 5321 6.1). Its recipients wait like any
others, for the local delivery or for a relay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import Connection

from restante.errors import InvalidAddress
from restante_mail.mime import parts
from restante_mail.mime.facts import Facts, scan
from restante_server.directory import addresses
from restante_server.directory.lookup import resolve_many
from restante_server.store import contents, garbage
from restante_server.store.contents import NewContent
from restante_server.store.listing import listing_of
from restante_server.store.staging import Staged
from restante_server.transport import route, rows
from restante_server.transport.records import Incoming, Planned, Recipient
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import WAITING, Notify


def recipients(tx: Connection, addresses: Sequence[str]) -> tuple[Planned, ...]:
    """The recipient rows. No report follows about any of them (RFC 3461 6.1)."""
    wanted = [Recipient(address, 1 << Notify.NEVER) for address in addresses]
    return route.plan(resolve_many(tx, addresses), wanted, may_relay=True, promised=False)


def _author_domain(facts: Facts) -> str:
    """The domain of From in A-labels; "" if there is none."""
    try:
        return addresses.parse(facts.summary.from_[0].address).ascii_domain if facts.summary.from_ else ""
    except InvalidAddress:
        return ""


def send(
    tx: Connection,
    settings: TransportSettings,
    octets: bytes,
    to: tuple[Planned, ...],
    *,
    source: str,
    message_id: str,
    now: int,
    tls_optional: bool = False,
) -> int:
    """Accept the message; returns its transport id. `octets` are canonical, `source` is shown to administrators.

    The domain of From signs it. With `tls_optional` no policy about TLS holds it up.
    """
    facts = scan(octets)
    new = NewContent(len(octets), hashlib.sha256(octets).digest(), parts.encode(facts.tree), octets, None)
    message = Incoming(
        reverse_path="",
        staged=Staged(len(octets), facts, False, new),
        listing=listing_of(facts),
        recipients=to,
        accepted_at=now,
        source=source,
        smtputf8=not all(planned.forward_path.isascii() for planned in to),
        body_8bit=not octets.isascii(),
        tls_optional=tls_optional,
        internet_message_id=message_id,
        signing_domain=_author_domain(facts),
    )
    (content_id,) = contents.insert_many(tx, [new], now)
    waits = any(planned.state in WAITING for planned in to)
    (transport_id,) = rows.insert_messages(tx, [(message, content_id if waits else None)])
    if not waits:
        garbage.notice(tx, [content_id], now)
    rows.insert_recipients(tx, [(transport_id, message, to)], settings.schedule)
    return transport_id
