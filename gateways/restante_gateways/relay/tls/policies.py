"""The MTA-STS policies of destinations: cached in memory, kept in the core, fetched anew when their id changes.

A relay holds nothing that a restart may not lose, and a policy must outlive it: otherwise an attacker who holds up the
policy's web server or the TXT record would get mail in clear after a restart (RFC 8461 10.2). The core keeps it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import structlog

from restante import errors
from restante.methods import Method, Request, Response
from restante.v1 import methods
from restante.v1.tls_pb2 import GetStsPolicyRequest, StoreStsPolicyRequest
from restante.v1.tls_pb2 import StsPolicy as Message
from restante_gateways.net.resolver import LookupFailed
from restante_gateways.relay.tls.fetch import Fetcher, FetchFailed
from restante_gateways.relay.tls.sessions import Sessions
from restante_mail.authentication.mta_sts import BadPolicy, Mode, StsPolicy, parse_policy, record_id
from restante_mail.authentication.tls_result import PolicyKind, TlsPolicy

log = structlog.get_logger("relay")

Value = TypeVar("Value")

MAX_KEPT = 10_000  # policies in memory; the longest unused is dropped first
ABSENT_SECONDS = 300.0  # a domain without a policy is not looked up again for so long (RFC 8461 3.3)
AGAIN_SECONDS = 300.0  # until the next fetch after a failed one
REFRESH_SECONDS = 86_400.0  # age at which a policy is fetched again, unless half of its max_age is less
LOOK_SECONDS = 60.0  # between two looks for policies to fetch again
REFRESHED_AT_ONCE = 20


class Texts(Protocol):
    """The TXT records in the DNS; `Resolver` implements it."""

    async def txt(self, name: str) -> list[bytes]:
        """The TXT records of a name. Raises LookupFailed."""
        ...


class Core(Protocol):
    """The calls to the core; `restante.link.CoreLink` implements them."""

    async def execute(
        self, method: Method[Request, Response], request: Request, *, timeout: float = 30.0, independent: bool = False
    ) -> Response:
        """Run one operation."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """A policy with the id of its record. Times are seconds since 1970-01-01 UTC."""

    record_id: str
    policy: StsPolicy
    fetched_at: float
    expires_at: float
    not_before: float = 0.0  # of the next fetch, after a failed one

    def stale(self, now: float) -> bool:
        """Whether it is time to fetch it again, in the background."""
        age = min(REFRESH_SECONDS, self.policy.max_age_seconds / 2)
        return now >= self.fetched_at + age and now >= self.not_before


class StsPolicies:
    """The policies of all destinations."""

    def __init__(
        self,
        resolver: Texts,
        fetcher: Fetcher,
        core: Core,
        sessions: Sessions,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._resolver, self._fetcher, self._core, self._sessions = resolver, fetcher, core, sessions
        self._clock = clock
        self._kept: dict[str, Kept] = {}  # the latest used is the last
        self._absent: dict[str, float] = {}  # until when a domain has no policy
        self._failed: dict[str, tuple[str, float]] = {}  # id whose fetch has failed, and until when
        self._looking: dict[str, asyncio.Task[StsPolicy | None]] = {}

    async def of(self, domain: str) -> StsPolicy | None:
        """The valid policy of a domain in A-labels, but for mode none; None without one. Raises RestanteError.

        All who ask for a domain at once wait for one lookup.
        """
        name = domain.lower().rstrip(".")
        if self._absent.get(name, 0.0) > self._clock():
            return None
        looking = self._looking.get(name)
        if looking is None:
            looking = asyncio.create_task(self._look(name), name=f"MTA-STS policy of {name}")
            self._looking[name] = looking
            looking.add_done_callback(lambda _: self._looked(name))
        policy = await asyncio.shield(looking)
        return None if policy is None or policy.mode is Mode.NONE else policy

    async def refresh(self) -> None:
        """Fetch policies again before they expire, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.refresh_now()

    async def refresh_now(self) -> None:
        """Fetch the stale policies of this moment again, at most REFRESHED_AT_ONCE; forget the expired ones."""
        now = self._clock()
        for domain in [domain for domain, kept in self._kept.items() if kept.expires_at <= now]:
            del self._kept[domain]
        stale = [domain for domain, kept in self._kept.items() if kept.stale(now)][:REFRESHED_AT_ONCE]
        await asyncio.gather(*(self._refresh(domain) for domain in stale))

    def _looked(self, domain: str) -> None:
        done = self._looking.pop(domain)
        if not done.cancelled():
            done.exception()  # so that asyncio does not log it when every asker has gone

    async def _look(self, domain: str) -> StsPolicy | None:
        now = self._clock()
        kept = await self._known(domain, now)
        published = await self._published(domain)
        if published is None or (kept is not None and kept.record_id == published):
            # The absence of a record does not end a policy: RFC 8461 3.1.
            if kept is None:
                _remember(self._absent, domain, now + ABSENT_SECONDS)
            return None if kept is None else kept.policy
        failed_id, until = self._failed.get(domain, ("", 0.0))
        if failed_id != published or until <= now:
            kept = await self._fetched(domain, published, kept)
        return None if kept is None else kept.policy

    async def _known(self, domain: str, now: float) -> Kept | None:
        """The valid policy in memory, or in the core."""
        kept = self._kept.pop(domain, None) or await self._stored(domain)
        if kept is None or kept.expires_at <= now:
            return None
        _remember(self._kept, domain, kept)
        return kept

    async def _stored(self, domain: str) -> Kept | None:
        answer = await self._core.execute(methods.GET_STS_POLICY, GetStsPolicyRequest(domain=domain), independent=True)
        if not answer.HasField("policy"):
            return None
        given = answer.policy
        try:
            policy = parse_policy(given.policy)
        except BadPolicy:  # stored by a relay of a later version
            return None
        return Kept(given.record_id, policy, given.fetched_at.seconds, given.expires_at.seconds)

    async def _published(self, domain: str) -> str | None:
        """The id of the record in the DNS; None without a valid one, and when the DNS does not answer."""
        try:
            return record_id(await self._resolver.txt(f"_mta-sts.{domain}"))
        except LookupFailed:
            return None

    async def _refresh(self, domain: str) -> None:
        kept = self._kept.get(domain)
        if kept is not None:  # it may just have expired
            await self._fetched(domain, await self._published(domain) or kept.record_id, kept)

    async def _fetched(self, domain: str, published: str, kept: Kept | None) -> Kept | None:
        """Fetch the policy and keep it; the one kept so far where that fails."""
        now = self._clock()
        try:
            policy = await self._fetcher.fetch(domain)
        except FetchFailed as failed:
            log.warning("MTA-STS policy not fetched", domain=domain, reason=failed.reason, kept=kept is not None)
            applied = TlsPolicy(domain, PolicyKind.STS, kept.policy.lines() if kept is not None else ())
            self._sessions.failed(applied, failed.result, failed.reason, host=f"mta-sts.{domain}")
            _remember(self._failed, domain, (published, now + AGAIN_SECONDS))
            if kept is not None:
                kept = replace(kept, not_before=now + AGAIN_SECONDS)
                _remember(self._kept, domain, kept)
            return kept
        self._failed.pop(domain, None)
        self._absent.pop(domain, None)
        found = Kept(published, policy, now, now + policy.max_age_seconds)
        _remember(self._kept, domain, found)
        await self._store(domain, found)
        return found

    async def _store(self, domain: str, kept: Kept) -> None:
        octets = "\n".join(kept.policy.lines()).encode()
        message = Message(domain=domain, record_id=kept.record_id, policy=octets)
        try:
            await self._core.execute(methods.STORE_STS_POLICY, StoreStsPolicyRequest(policy=message), independent=True)
        except errors.RestanteError as error:
            log.warning("MTA-STS policy not stored", domain=domain, reason=error.reason)


def _remember(known: dict[str, Value], domain: str, value: Value) -> None:
    """Set the value as the latest one, and drop the earliest ones beyond MAX_KEPT."""
    known.pop(domain, None)
    known[domain] = value
    while len(known) > MAX_KEPT:
        del known[next(iter(known))]
