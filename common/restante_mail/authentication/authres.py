"""Authentication-Results of the results of the checks (RFC 8601). *Pure.*

Domains, selectors and problems are hostile text. Each value is therefore a token or a quoted string of ASCII, and the
value of the field has at most MAX_OCTETS.

The methods are those that IANA has registered: spf, dkim, dmarc, arc, iprev and dnswl (RFC 8904). A list of bad clients
has no registered method. Its result stands as `x-dnsbl`, with the properties of dnswl: fail, when it lists the client.
"""

from __future__ import annotations

import re

from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    DnsListResult,
    Result,
    ReverseDnsResult,
    SpfResult,
)

__all__ = ["MAX_OCTETS", "field", "value"]

MAX_OCTETS = 4 << 10  # of a field, so that a head has room for it (docs/design.md "Heads")
_LINE = 78  # characters (RFC 5322 2.1.1)
_NAME = 255  # characters of a value
_REASON = 160  # characters of a reason
_RESERVED = 64  # octets of the name of the field, its end, and the semicolons that are not counted

# A token of RFC 2045 5.1, or the local-part and the domain-name of RFC 8601 2.2.
_PLAIN = re.compile(r"(?:[\w!#$%&'*+.^`{|}~-]*+@)?+[\w!#$%&'*+.^`{|}~-]++", re.ASCII)
_SIMPLE = str.maketrans('"\\', "'/")  # in a reason: some parsers do not understand a backslash there
_TO_QUOTE = re.compile(r'(["\\])')


def field(authserv_id: str, checks: Checks, *, client_address: str = "", override: str = "") -> bytes:
    """The folded field with its CRLF; see `value`."""
    return (
        b"Authentication-Results: "
        + value(authserv_id, checks, client_address=client_address, override=override).encode("ascii")
        + b"\r\n"
    )


def value(authserv_id: str, checks: Checks, *, client_address: str = "", override: str = "") -> str:
    """The value of the field, folded with CRLF and a space. ARC-Authentication-Results has it behind its instance.

    `client_address` is the address of the client that iprev and ARC speak of. `override` is the local reason for which
    a failure of DMARC counts for nothing.

    Results that do not fit are left out: signatures first that did not pass, from the end, and answers of DNS lists.
    """
    spf = [_spf(one) for one in checks.spf]
    dmarc = [_dmarc(checks.dmarc, override)] if checks.dmarc is not None else []
    arc = [_arc(checks.arc, client_address)] if checks.arc is not None else []
    iprev = [_iprev(checks.reverse_dns, client_address)] if checks.reverse_dns is not None else []
    name = _quoted(authserv_id)
    room = MAX_OCTETS - _RESERVED - len(name) - sum(map(_octets, (*spf, *dmarc, *arc, *iprev)))
    signatures, room = _within(room, [(_dkim(one), one.result is not Result.PASS) for one in checks.dkim])
    lists, _ = _within(room, [(found, False) for one in checks.dns_lists if (found := _dns_list(one))])
    everything = [*spf, *signatures, *dmarc, *arc, *iprev, *lists]
    return name + "".join(f";\r\n{_folded(one)}" for one in everything or [["none"]])


def _within(room: int, results: list[tuple[list[str], bool]]) -> tuple[list[list[str]], int]:
    """The results for which there is room, in their order, and the room left. `True` marks what goes first."""
    kept: set[int] = set()
    for at in sorted(range(len(results)), key=lambda at: results[at][1]):
        octets = _octets(results[at][0])
        if octets <= room:
            kept.add(at)
            room -= octets
    return [result for at, (result, _) in enumerate(results) if at in kept], room


def _octets(result: list[str]) -> int:
    """The octets of one result with the semicolon before it, however it is folded."""
    return 1 + sum(len(word) + 3 for word in result)


def _folded(words: list[str]) -> str:
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) + 1 > _LINE:
            lines.append(line)
            line = ""
        line += f" {word}"
    return "\r\n".join([*lines, line])


def _spf(one: SpfResult) -> list[str]:
    reason = one.problem or ("" if one.result is Result.PASS else one.mechanism)
    return [*_result("spf", one.result, reason), *_named(f"smtp.{one.identity.value}", one.domain)]


def _dkim(one: DkimResult) -> list[str]:
    reason = one.problem
    if one.partial and not reason:
        reason = "l= leaves octets of the body unsigned"
    identity = "" if one.identity == f"@{one.domain}" else one.identity
    return [
        *_result("dkim", one.result, reason, f"({one.key_bits}-bit key)" if one.key_bits else ""),
        *_named("header.d", one.domain),
        *_named("header.i", identity),
        *_named("header.s", one.selector),
        *_named("header.a", one.algorithm),
        *_named("header.b", one.signature_start),
    ]


def _dmarc(one: DmarcResult, override: str) -> list[str]:
    policy = one.policy.value if one.policy_domain else ""
    return [
        *_result("dmarc", one.result, override or one.problem),
        *_named("header.from", one.author_domain),
        *_named("policy.dmarc", policy),
    ]


def _arc(one: ArcResult, client_address: str) -> list[str]:
    words = _result("arc", one.result, one.problem)
    if one.result is not Result.PASS:
        return words
    return [*words, *_named("header.oldest-pass", str(one.oldest_pass)), *_named("smtp.remote-ip", client_address)]


def _iprev(one: ReverseDnsResult, client_address: str) -> list[str]:
    return [*_result("iprev", one.result, ""), *_named("policy.iprev", client_address)]


def _dns_list(one: DnsListResult) -> list[str]:
    """The result of one list; nothing if it has answered that it does not have the client."""
    if one.listed and one.weight < 0:
        words = _result("dnswl", Result.PASS, "")
    elif one.listed:
        words = _result("x-dnsbl", Result.FAIL, "")
    elif one.problem:
        words = _result("x-dnsbl", Result.TEMPERROR, one.problem)
    else:
        return []
    return [*words, *_named("dns.zone", one.zone), *_named("policy.ip", one.answers[0] if one.answers else "")]


def _result(method: str, result: Result, reason: str, comment: str = "") -> list[str]:
    words = [f"{method}={result.value}"]
    if comment:
        words.append(comment)
    if reason:
        words.append(f"reason={_quoted(reason.translate(_SIMPLE), _REASON)}")
    return words


def _named(name: str, text: str) -> list[str]:
    """A property; nothing where it has no value."""
    return [f"{name}={_quoted(text)}"] if text else []


def _quoted(text: str, limit: int = _NAME) -> str:
    """A value (RFC 8601 2.2): as it is, or as a quoted string of printable ASCII."""
    plain = "".join(one if " " <= one <= "~" else "?" for one in text[:limit])
    return plain if _PLAIN.fullmatch(plain) else '"' + _TO_QUOTE.sub(r"\\\1", plain) + '"'
