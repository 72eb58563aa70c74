"""Judging checked mail before it is accepted, and counting the verdicts of what was accepted or refused.

The settings of the domains come from memory if the directory has not changed since they were read.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from restante_mail.authentication.results import Checks
from restante_server.api.engine.call import Call
from restante_server.directory.check_rules import DomainRules
from restante_server.directory.domains import rules_of
from restante_server.transport.acceptance import Judged, claimed_domains, judged, recipient_domains
from restante_server.transport.inbound.intake import Arrived
from restante_server.transport.inbound.judge import Action
from restante_server.transport.records import Envelope


async def judge(call: Call, envelope: Envelope, arrived: Arrived, checks: Checks, *, each: bool) -> Judged:
    """See acceptance.judged."""
    claimed = claimed_domains(envelope, arrived)
    rules = await domain_rules(call, claimed.authors | {claimed.reverse_path} | recipient_domains(envelope))
    return judged(envelope, checks, claimed, rules, call.core.transport.settings.checks, each=each)


async def domain_rules(call: Call, names: Collection[str]) -> dict[str, DomainRules]:
    """The settings of those of the domains that are local."""
    domains = call.core.domains
    rules = domains.get(names)
    if rules is None:
        generation = domains.generation
        rules = await call.core.short_read(partial(rules_of, ascii_domains=names))
        domains.keep(generation, names, rules)
    return rules


def count(call: Call, message: Judged) -> None:
    """Count a message by the checks that have put it into Junk for a recipient, or have refused it for one."""
    figures = call.core.transport.figures
    for check in {one.check for one in message.verdicts if one.action is not Action.DELIVER}:
        figures.judged(check, "junk")
    for check in {one.metadata["check"] for one in message.refusals.values()}:
        figures.judged(check, "refuse")
