"""The checks of one gateway process, and those of one connection, which begin with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from restante_gateways.net.dns_answers import DnsAnswers
from restante_gateways.smtp.checks.client import dns_list, reverse_dns
from restante_gateways.smtp.checks.message import MessageChecks
from restante_gateways.smtp.checks.metrics import CheckMetrics
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_mail.authentication.dns import Address
from restante_mail.authentication.results import DnsListResult, ReverseDnsResult
from restante_mail.envelope.paths import Path
from restante_process.addresses import in_networks, parse_address


class Checker:
    """Begins the checks of connections."""

    def __init__(self, settings: CheckSettings, metrics: CheckMetrics, dns: DnsAnswers | None = None) -> None:
        """`dns` replaces the name servers of the settings. Raises ValueError, which names the key."""
        self._settings, self._metrics = settings, metrics
        try:
            self._dns = dns or DnsAnswers(settings.nameservers)
        except ValueError as error:
            raise ValueError(f"checks.nameservers: {error}") from None

    def connected(self, client_address: str, now: Callable[[], datetime]) -> ConnectionChecks | None:
        """The checks of a connection; None if its client is not checked."""
        if not client_address or in_networks(client_address, self._settings.exempt):
            return None
        return ConnectionChecks(parse_address(client_address), self._settings, self._metrics, self._dns, now)


class ConnectionChecks:
    """The checks of one client. Its name and the lists are looked up beside the conversation."""

    def __init__(
        self,
        address: Address,
        settings: CheckSettings,
        metrics: CheckMetrics,
        dns: DnsAnswers,
        now: Callable[[], datetime],
    ) -> None:
        self._address, self._settings, self._metrics, self._dns, self._now = address, settings, metrics, dns, now
        self._client = asyncio.create_task(self._check_client()) if settings.of_client else None

    def message(self, helo: str, reverse_path: Path | None) -> MessageChecks:
        """The checks of a message, from MAIL on. `reverse_path` is None for the null path."""
        return MessageChecks(
            self._address, helo, reverse_path, self._settings, self._metrics, self._dns, self._now, self._client_results
        )

    def close(self) -> None:
        """Give up what still runs."""
        if self._client is not None:
            self._client.cancel()

    async def _client_results(self) -> tuple[ReverseDnsResult | None, tuple[DnsListResult, ...]]:
        """The results for the client, which are the same for all its messages."""
        return (None, ()) if self._client is None else await self._client

    async def _check_client(self) -> tuple[ReverseDnsResult | None, tuple[DnsListResult, ...]]:
        dns = self._dns.until(asyncio.get_running_loop().time() + self._settings.seconds)
        async with asyncio.TaskGroup() as group:
            lists = [group.create_task(dns_list(self._address, each, dns)) for each in self._settings.dns_lists]
            name = await reverse_dns(self._address, dns) if self._settings.reverse_dns else None
        return name, tuple(task.result() for task in lists)
