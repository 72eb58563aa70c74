"""The results of the checks of a client before the content of a message, for greylisting at RCPT."""

from __future__ import annotations

from collections.abc import Collection

from restante.v1.greylist_pb2 import ClientEvidence
from restante_gateways.smtp.checks.contract import message_checks
from restante_gateways.smtp.checks.message import MessageChecks


async def client_evidence(checks: MessageChecks | None, wanted: Collection[str]) -> ClientEvidence:
    """The results of the wanted checks ("spf", "helo", "reverse-dns"), after at most `checks.seconds`.

    Empty when nothing is wanted, so that RCPT does not wait for the DNS, and for a client that is not checked.
    """
    if checks is None or not wanted:
        return ClientEvidence()
    results = await checks.before_content(spf=bool({"spf", "helo"} & set(wanted)), reverse_dns="reverse-dns" in wanted)
    found = message_checks(results)
    return ClientEvidence(spf=found.spf, reverse_dns=found.reverse_dns if found.HasField("reverse_dns") else None)
