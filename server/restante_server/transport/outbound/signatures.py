"""The fields that sign or seal outbound mail, made when a relay reads it (docs/design.md "Signing", "Forwarding").

A message to many destinations is read once for each of them, and signed once for each form: as it is stored, or
converted to 7 bits. The fields are kept in memory alone. They cost little, and a restart or a new key needs no other
care.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol

from sqlalchemy import Connection

from restante.errors import RestanteError
from restante_mail.authentication import authres
from restante_mail.authentication.arc.seal import Sealer
from restante_mail.authentication.dkim.sign import Signer
from restante_mail.authentication.dkim.signing_keys import SigningKey, load_key
from restante_mail.authentication.results import Checks, Result
from restante_server.directory import domain_keys
from restante_server.directory import keys as sealing
from restante_server.directory.keys import KeyRing

KEPT = 4_096  # signatures, of about 1.5 kB each
OPENED = 1_000  # private keys in memory
AT_ONCE = 2  # messages signed at one moment, on threads
SIGNATURE_OCTETS = 2_048  # more than two usual signatures have; part of a lease's size
SEAL_OCTETS = 6_144  # more than an ARC set has, whose results have at most 4 KiB


class Keys:
    """The active keys of domains. Those that have signed stay open in memory. Use it on any thread."""

    def __init__(self) -> None:
        self._opened: dict[int, SigningKey] = {}  # by key id; a key never changes

    def of(self, tx: Connection, author_domain: str) -> dict[int, SigningKey]:
        """The keys that sign for an author's domain, by key id; {}: none."""
        found: dict[int, SigningKey] = {}
        ring: KeyRing | None = None
        for sealed in domain_keys.signing(tx, author_domain):
            opened = self._opened.get(sealed.key_id)
            if opened is None:
                ring = ring or KeyRing(sealing.load(tx))
                opened = load_key(sealed.domain, sealed.selector, sealed.open(ring))
                if len(self._opened) >= OPENED:
                    self._opened = {}
                self._opened[sealed.key_id] = opened
            found[sealed.key_id] = opened
        return found


class Signing(Protocol):
    """The signing or sealing of one message."""

    def feed(self, octets: bytes) -> None:
        """The next octets of the message."""
        ...

    def finish(self) -> bytes:
        """The fields to put before the message. Raises ValueError when its header cannot be signed or sealed."""
        ...


class Method(NamedTuple):
    """How a message is signed or sealed: the keys, and the beginning at a moment."""

    key_ids: tuple[int, ...]
    begin: Callable[[datetime], Signing]


def dkim(keys: Mapping[int, SigningKey]) -> Method | None:
    """DKIM signatures with these keys; None if there are none."""
    return Method(tuple(keys), partial(Signer, tuple(keys.values()))) if keys else None


def arc(keys: Mapping[int, SigningKey], checks: Checks, authserv_id: str, client_address: str) -> Method | None:
    """An ARC set with the results of the checks at the acceptance (RFC 8617 5.1).

    None without a key, and where the result of the chain is not known: nobody may vouch for such a message.
    """
    chain = checks.arc.result if checks.arc is not None else Result.TEMPERROR
    ranked = sorted(keys.items(), key=lambda item: item[1].algorithm != "rsa-sha256")  # which every server knows
    if not ranked or chain not in (Result.NONE, Result.PASS, Result.FAIL):
        return None
    key_id, key = ranked[0]
    results = authres.value(authserv_id, checks, client_address=client_address)
    return Method((key_id,), lambda now: Sealer(key, now, chain, results))


class Form(NamedTuple):
    """A form of a message that is signed."""

    transport_id: int
    seven_bit: bool
    key_ids: tuple[int, ...]


Source = Callable[[], AsyncIterator[bytes]]
"""Begins to read the octets of a message, in pieces."""


class Signatures:
    """Makes signatures on threads, and keeps them. Belongs to the event loop."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.made = 0  # signed messages since the start
        self._kept: dict[Form, bytes] = {}  # the oldest first
        self._running: dict[Form, asyncio.Task[bytes]] = {}
        self._free = asyncio.Semaphore(AT_ONCE)

    def known(self, form: Form) -> bytes | None:
        """The signatures of a form, if they are in memory."""
        return self._kept.get(form)

    async def of(self, form: Form, begin: Callable[[datetime], Signing], source: Source) -> bytes:
        """The fields to put before a message; b"" for a header that cannot be signed or sealed.

        Readers of one form wait for the first of them. When that one fails, such as by the loss of its lease, the next
        one begins. Raises what `source` raises.
        """
        while True:
            kept = self._kept.get(form)
            if kept is not None:
                return kept
            running = self._running.get(form)
            is_first = running is None
            if running is None:
                running = self._running[form] = asyncio.create_task(self._make(form, begin, source))
                running.add_done_callback(lambda task: self._ended(form, task))
            try:
                return await asyncio.shield(running)
            except RestanteError:
                if is_first:
                    raise

    async def _make(self, form: Form, begin: Callable[[datetime], Signing], source: Source) -> bytes:
        signer = begin(datetime.now(UTC))
        async with self._free:
            async for octets in source():
                await asyncio.to_thread(signer.feed, octets)
            try:
                fields = await asyncio.to_thread(signer.finish)
            except ValueError:  # a header that is too long, or an ARC chain that is not the one that was checked
                fields = b""
        self.made += 1
        self._kept[form] = fields
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return fields

    def _ended(self, form: Form, task: asyncio.Task[bytes]) -> None:
        self._running.pop(form, None)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: possibly no reader waits any more
