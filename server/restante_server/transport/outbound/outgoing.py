"""Preparing a submitted message: removes trace fields, adds Date and Message-ID, keeps Bcc only in the sender's copy.

RFC 6409 8, RFC 5322 3.6; a resending gets a Resent-Date and a Resent-Message-ID. The body is copied at most once, and
not at all when the header needs no change.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain

from restante.errors import InvalidAddress, MailLoop, NoRecipients
from restante_mail.header.address_list import Mailbox, parse_address_list, spelled
from restante_mail.header.edits import received_edit, resending_completed, submission_edit
from restante_mail.header.fields import header_end, raw_fields, wanted
from restante_mail.header.trace import count_hops, received_by_service
from restante_mail.limits import DEFAULT_LIMITS
from restante_server.directory import addresses
from restante_server.store import contents
from restante_server.store.contents import Stored
from restante_server.store.staging import Contents, Form, Staged
from restante_server.transport.outbound.authors import Authorship, authorship
from restante_server.transport.records import Recipient
from restante_server.transport.settings import TransportSettings

COPY_OCTETS = 256 << 10  # read at a time when a body is copied
DESTINATIONS = wanted("to cc bcc")


@dataclass(frozen=True, slots=True)
class Source:
    """A submitted message: octets, or a content of the store. `header` includes its blank line."""

    header: bytes
    octets: bytes = b""  # the whole message
    stored: Stored | None = None
    was_checked: bool = False  # the content has results of checks, which are not those of the submission


@dataclass(frozen=True, slots=True)
class Headers:
    """The header of the sent message and the header of the sender's copy."""

    sent: bytes
    kept: bytes


def source_of(octets: bytes) -> Source:
    """Canonical octets as a source."""
    return Source(octets[: header_end(octets)], octets)


def read_authorship(source: Source, settings: TransportSettings) -> Authorship:
    """The authors that the header claims. Raises InvalidContent, MailLoop."""
    made = authorship(source.header)
    hops = count_hops(source.header)
    if hops > settings.max_hops:
        raise MailLoop(hops=hops)
    return made


def recipients_of(source: Source, written: Authorship) -> list[Recipient]:
    """All addresses in To, Cc and Bcc, or in the Resent fields of a resent message. Raises NoRecipients,
    InvalidAddress."""
    values: Iterable[str] = written.resent_to
    if not written.is_resent:
        values = chain.from_iterable(raw_fields(source.header, DESTINATIONS, DEFAULT_LIMITS.field_octets).values())
    found: dict[str, Recipient] = {}
    for value in values:
        for item in parse_address_list(value, DEFAULT_LIMITS.addresses):
            if isinstance(item, Mailbox) and (item.local or item.domain):
                text = spelled(item.local, item.domain)
                try:
                    text = text.encode("latin-1").decode()
                except UnicodeDecodeError:
                    raise InvalidAddress(address=text[:320], problem="is neither ASCII nor UTF-8") from None
                parsed = addresses.parse(text)
                found.setdefault(parsed.key, Recipient(str(parsed)))
    if not found:
        raise NoRecipients
    return list(found.values())


def headers(source: Source, settings: TransportSettings, now: datetime, author: str) -> Headers:
    """The completed header. `author` is the address for a missing From."""
    clean = received_edit(source.header, (settings.hostname,)).apply(source.header)
    clean = resending_completed(clean, now, f"{secrets.token_hex(16)}@{settings.hostname}")
    edit = submission_edit(clean, now, f"{secrets.token_hex(16)}@{settings.hostname}", author)
    return Headers(edit.apply(clean), replace(edit, drops=()).apply(clean))


async def stage(given: Contents, source: Source, header: bytes) -> Staged:
    """Stage the message with this header. Raises MessageTooLarge, InvalidContent, StoreFull."""
    stored = source.stored
    if stored is None:
        return await given.stage(header + source.octets[len(source.header) :], Form.CANONICAL)
    if header == source.header and not source.was_checked:
        return Staged(stored.size_octets, await given.facts(stored), False, None, stored.content_id)
    writer = given.writer(Form.CANONICAL)
    try:
        await writer.feed(header)
        offset = len(source.header)
        while offset < stored.size_octets:
            octets = await given.db.read(contents.read_range, given.directory, stored, offset, COPY_OCTETS)
            await writer.feed(octets)
            offset += len(octets)
        return await writer.finish()
    except BaseException:
        writer.abandon()
        raise


def received(settings: TransportSettings, now: int) -> bytes:
    """The Received field of a message submitted through the API."""
    moment = datetime.fromtimestamp(now // 1_000_000, UTC)
    return received_by_service(settings.hostname, "Restante API", secrets.token_hex(8), moment)
