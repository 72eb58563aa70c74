"""Fetching MTA-STS policies over HTTPS (RFC 8461 3.3)."""

from __future__ import annotations

import h11

from restante_gateways.relay.tls.https import Https, HttpsFailed, Request
from restante_gateways.relay.tls.rules import Fault
from restante_mail.authentication.https_url import PORT
from restante_mail.authentication.mta_sts import MAX_POLICY_OCTETS, BadPolicy, StsPolicy, parse_policy
from restante_mail.authentication.tls_result import TlsResult

PATH = "/.well-known/mta-sts.txt"


class FetchFailed(Fault):
    """No policy was fetched. `result` and `reason` say why."""


class Fetcher:
    """Fetches policies by HTTPS requests, whose bounds are those of `https`."""

    def __init__(self, https: Https, port: int = PORT) -> None:
        self._https, self._port = https, port

    async def fetch(self, domain: str) -> StsPolicy:
        """The policy of a domain, in A-labels. Raises FetchFailed."""
        request = Request("GET", f"mta-sts.{domain}", self._port, PATH, [("Accept", "text/plain")])
        try:
            return parse_policy(await self._https.ask(request, _judge))
        except HttpsFailed as failed:
            result = TlsResult.STS_WEBPKI_INVALID if failed.untrusted else TlsResult.STS_POLICY_FETCH_ERROR
            raise FetchFailed(result, failed.reason) from None
        except BadPolicy as bad:
            raise FetchFailed(TlsResult.STS_POLICY_INVALID, f"the policy is malformed: {bad}") from None


def _judge(response: h11.Response) -> int:
    """Refuses another status than 200, redirects included, and another type (RFC 8461 3.3)."""
    if response.status_code != 200:
        raise HttpsFailed(f"the web server answered with HTTP status {response.status_code}")
    kinds = [value for name, value in response.headers if name == b"content-type"]
    if len(kinds) != 1 or kinds[0].partition(b";")[0].strip(b" \t").lower() != b"text/plain":
        raise HttpsFailed("the policy is not text/plain")
    return MAX_POLICY_OCTETS
