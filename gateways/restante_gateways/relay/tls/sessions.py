"""Counts of TLS sessions with other servers (RFC 8460 4.3), until they are reported to the core."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from restante_gateways.relay.outcomes import visible
from restante_mail.authentication.tls_result import TlsPolicy, TlsResult

MAX_KINDS = 10_000  # different sessions between two reports; further kinds are not counted
MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Session:
    """A kind of session. `result` None is a success, which has no other field."""

    policy: TlsPolicy
    result: TlsResult | None = None
    sending_address: str = ""  # of this relay
    receiving_host: str = ""  # the MX host
    receiving_address: str = ""
    reason: str = ""  # at most 200 characters


class Sessions:
    """Counts of sessions by kind."""

    def __init__(self, counted: Callable[[TlsPolicy, TlsResult | None], None] = lambda policy, result: None) -> None:
        """`counted` is called for every session."""
        self._counts: Counter[Session] = Counter()
        self._counted = counted

    def succeeded(self, policy: TlsPolicy) -> None:
        """Count a session that met the policy."""
        self._add(Session(policy))

    def failed(
        self,
        policy: TlsPolicy,
        result: TlsResult,
        reason: str,
        *,
        sending_address: str = "",
        host: str = "",
        address: str = "",
    ) -> None:
        """Count a session, or an attempt to get one, that did not meet the policy."""
        shown = visible(reason)[:MAX_REASON_CHARACTERS]  # it may quote a server
        self._add(Session(policy, result, sending_address, host, address, shown))

    def taken(self) -> Counter[Session]:
        """All counts since the last call."""
        taken, self._counts = self._counts, Counter()
        return taken

    def put_back(self, counts: Counter[Session]) -> None:
        """Add counts that could not be reported."""
        for session, count in counts.items():
            self._add(session, count, seen=True)

    def _add(self, session: Session, count: int = 1, *, seen: bool = False) -> None:
        if not seen:
            self._counted(session.policy, session.result)
        if session in self._counts or len(self._counts) < MAX_KINDS:
            self._counts[session] += count
