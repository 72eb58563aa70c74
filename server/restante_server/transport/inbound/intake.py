"""Receiving one message from another server: checks and cleans its header, and streams its body in bounded memory.

The hop count and the addresses of earlier deliveries are read from the header before forged trace fields are removed
from it (RFC 5321 6.3).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from restante.errors import InvalidAddress, InvalidContent, MailLoop
from restante_mail.authentication.reported import reported
from restante_mail.authentication.results import Checks
from restante_mail.header.authres import authserv_id
from restante_mail.header.edits import received_edit
from restante_mail.header.fields import fields, header_end, unfold
from restante_mail.header.trace import count_hops
from restante_mail.limits import DEFAULT_LIMITS
from restante_server.directory import addresses
from restante_server.store.staging import Contents, Form, Staged
from restante_server.transport.settings import TransportSettings

MAX_HEADER_OCTETS = DEFAULT_LIMITS.header_octets  # the core parses no field beyond, though mail clients would
MAX_LOOKED_AT = 1_000  # Delivered-To fields
_TO_CUT = re.compile(rb"\n(?:return-path|delivered-to|authentication-results)[ \t]*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A completely received message."""

    staged: Staged
    had: frozenset[str]  # keys of the addresses that it was delivered to before
    hops: int
    header: bytes = b""  # as it came; only if the settings keep headers
    reported: Checks | None = None  # the results of a trusted server's checks; None: it has reported none


class Intake:
    """Receives the octets of one message. `feed` and `finish` raise the reason of a refusal."""

    def __init__(
        self,
        contents: Contents,
        settings: TransportSettings,
        authserv_ids: Collection[str],
        trusted: Collection[str] = (),
    ) -> None:
        """Begin a content in the store, without Authentication-Results with `authserv_ids`. Raises StoreFull.

        Those with `trusted` names, in the form of `comparable_id`, are read as the results of checks.
        """
        self._settings, self._authserv_ids, self._trusted = settings, authserv_ids, trusted
        self._writer = contents.writer(Form.CANONICAL)
        self._header: bytearray | None = bytearray()  # None once the header has been processed
        self._had: frozenset[str] = frozenset()
        self._hops = 0
        self._kept = b""
        self._reported: Checks | None = None

    async def feed(self, octets: bytes) -> None:
        """Take the next octets. Raises InvalidContent, MessageTooLarge, MailLoop."""
        if self._header is None:
            await self._writer.feed(octets)
            return
        searched = max(0, len(self._header) - 3)
        self._header += octets
        if self._header[:2] == b"\r\n" or self._header.find(b"\r\n\r\n", searched) >= 0:
            await self._header_through()
        elif len(self._header) > MAX_HEADER_OCTETS:
            raise InvalidContent(problem=f"the header has more than {MAX_HEADER_OCTETS} octets")

    async def finish(self) -> Arrived:
        """Return the message after its last octet. Raises InvalidContent, MessageTooLarge, MailLoop."""
        if self._header is not None:
            await self._header_through()
        return Arrived(await self._writer.finish(), self._had, self._hops, self._kept, self._reported)

    def abandon(self) -> None:
        """Discard the message; harmless to repeat."""
        self._header = None
        self._writer.abandon()

    async def _header_through(self) -> None:
        held = bytes(self._header or b"")
        self._header = None
        block = held[: header_end(held)]
        if len(block) > MAX_HEADER_OCTETS:
            raise InvalidContent(problem=f"the header has more than {MAX_HEADER_OCTETS} octets")
        self._hops = count_hops(block)
        if self._hops > self._settings.max_hops:
            raise MailLoop(hops=self._hops)
        if self._settings.keeps_headers:
            self._kept = block
        # Most messages have no such field, so one search saves the parse.
        if _TO_CUT.search(b"\n" + block) is not None:
            self._had = _delivered_to(block)
            if self._trusted:
                self._reported = reported(_trusted_values(block, self._trusted))
            held = received_edit(block, self._authserv_ids).apply(block) + held[len(block) :]
        await self._writer.feed(held)


def _trusted_values(block: bytes, trusted: Collection[str]) -> Iterator[str]:
    """The unfolded values of Authentication-Results of trusted servers, from the top."""
    for field in fields(block):
        if field.name.lower() == b"authentication-results":
            value = unfold(block[field.value_start : field.end])
            if authserv_id(value) in trusted:
                yield value


def _delivered_to(block: bytes) -> frozenset[str]:
    """The keys of the addresses that a message has been delivered to before."""
    had: set[str] = set()
    for field in fields(block):
        if field.name.lower() == b"delivered-to" and len(had) < MAX_LOOKED_AT:
            try:
                had.add(addresses.key(unfold(block[field.value_start : field.end]).encode("latin-1").decode()))
            except (InvalidAddress, UnicodeDecodeError):
                continue  # not a valid address, so none of this server's
    return frozenset(had)
