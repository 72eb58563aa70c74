"""The results of the checks of a received message in one short line. *Pure.*"""

from __future__ import annotations

from restante.v1.checks_pb2 import CheckMethod, CheckResult, MessageChecks

METHODS = {
    "spf": CheckMethod.CHECK_METHOD_SPF,
    "dkim": CheckMethod.CHECK_METHOD_DKIM,
    "dmarc": CheckMethod.CHECK_METHOD_DMARC,
    "arc": CheckMethod.CHECK_METHOD_ARC,
    "iprev": CheckMethod.CHECK_METHOD_REVERSE_DNS,
    "dnslists": CheckMethod.CHECK_METHOD_DNS_LISTS,
}
"""Names of the checks."""

RESULTS = {name.removeprefix("CHECK_RESULT_").lower(): number for name, number in CheckResult.items() if number}
"""Names of the results."""

_NAMES = {number: name for name, number in RESULTS.items()}


def short_line(checks: MessageChecks) -> str:
    """Such as `spf=pass dkim=pass (example.org) dmarc=pass`; "" for a message that was not checked.

    The name of the server follows where another one has checked the message.
    """
    words = [f"spf={_NAMES.get(one.result, '?')}" for one in checks.spf[-1:]]
    if checks.dkim:
        best = max(checks.dkim, key=lambda one: one.result == CheckResult.CHECK_RESULT_PASS)
        words.append(f"dkim={_NAMES.get(best.result, '?')}" + (f" ({best.domain})" if best.domain else ""))
    if checks.HasField("dmarc"):
        words.append(f"dmarc={_NAMES.get(checks.dmarc.result, '?')}")
    if checks.HasField("arc") and checks.arc.result != CheckResult.CHECK_RESULT_NONE:
        words.append(f"arc={_NAMES.get(checks.arc.result, '?')}")
    words += [f"listed by {one.dns_zone}" for one in checks.dns_lists if one.listed and one.weight > 0]
    if words and checks.checked_by:
        words.append(f"by {checks.checked_by}")
    return " ".join(words)
