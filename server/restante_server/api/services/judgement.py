"""Judging checked mail before it is accepted: reads the settings of the domains that the policy needs."""

from __future__ import annotations

from functools import partial

from restante_mail.authentication.results import Checks
from restante_server.api.engine.call import Call
from restante_server.directory.domains import rules_of
from restante_server.transport.acceptance import claimed_domains, judged, recipient_domains
from restante_server.transport.inbound.intake import Arrived
from restante_server.transport.inbound.judge import Findings
from restante_server.transport.records import Envelope


async def judge(call: Call, envelope: Envelope, arrived: Arrived, checks: Checks) -> tuple[Envelope, Findings]:
    """See acceptance.judged. The settings come from memory if the directory has not changed since they were read."""
    claimed = claimed_domains(envelope, arrived)
    names = claimed.authors | {claimed.reverse_path} | recipient_domains(envelope)
    domains = call.core.domains
    rules = domains.get(names)
    if rules is None:
        generation = domains.generation
        rules = await call.core.short_read(partial(rules_of, ascii_domains=names))
        domains.keep(generation, names, rules)
    return judged(envelope, checks, claimed, rules, call.core.transport.settings.checks)
