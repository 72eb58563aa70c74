"""DMARC policy records (RFC 9989 4.7, 4.8). *Pure.*"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from restante_mail.authentication.results import Policy

__all__ = ["Record", "parse_record", "select_record"]

MAX_RECORD_OCTETS = 8192
MAX_TAGS = 100
MAX_URIS = 16  # of one tag

_VERSION = re.compile(rb"[vV][ \t]*+=[ \t]*+DMARC1[ \t]*+(?:;|\Z)")
_TAG = re.compile(r"[ \t]*+([A-Za-z0-9_]++)[ \t]*+=[ \t]*+([^;]*+)\Z")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+:[!-~]++")
_MAILTO = re.compile(r"mailto:[^@]++@[^@]++", re.IGNORECASE)
_OPTIONS = frozenset("01ds")


@dataclass(frozen=True, slots=True)
class Record:
    """A policy record. Tags with a syntax error have their default (RFC 9989 4.7)."""

    text: str  # as published
    policy: Policy = Policy.NONE  # p=
    subdomain_policy: Policy | None = None  # sp=
    nonexistent_policy: Policy | None = None  # np=
    strict_dkim: bool = False  # adkim=s
    strict_spf: bool = False  # aspf=s
    psd: str = "u"  # y, n or u
    testing: bool = False  # t=y
    aggregate_uris: tuple[str, ...] = ()  # rua=
    failure_uris: tuple[str, ...] = ()  # ruf=
    failure_options: frozenset[str] = frozenset("0")  # fo=
    problem: str = ""  # why the record gives no policy; it counts for the organizational domain nevertheless

    def policy_for(self, *, subdomain: bool, exists: bool) -> Policy:
        """The policy for the record's own domain or a subdomain (RFC 9989 4.10.1), before t=y lowers it."""
        if not subdomain:
            return self.policy
        if not exists and self.nonexistent_policy is not None:
            return self.nonexistent_policy
        return self.policy if self.subdomain_policy is None else self.subdomain_policy


def select_record(texts: Sequence[bytes]) -> bytes | None:
    """The policy record among TXT records; several are all discarded (RFC 9989 4.10)."""
    records = [text for text in texts if _VERSION.match(text)]
    return records[0] if len(records) == 1 else None


def parse_record(octets: bytes) -> Record:
    """The record of octets that `select_record` has chosen. Of a tag that occurs twice, the first counts."""
    return _parsed(octets[:MAX_RECORD_OCTETS])


@functools.lru_cache(maxsize=256)  # the same domains send again and again, and a message asks for one several times
def _parsed(octets: bytes) -> Record:
    text = octets.decode("ascii", "replace")
    tags: dict[str, str] = {}
    for piece in text.split(";", MAX_TAGS)[1:MAX_TAGS]:
        if found := _TAG.match(piece):
            tags.setdefault(found[1].lower(), found[2].rstrip(" \t"))
    aggregate_uris = _uris(tags.get("rua", ""))
    policies, problem = _policies(tags, bool(aggregate_uris))
    options = frozenset(tags.get("fo", "0").lower().replace(" ", "").split(":"))
    return Record(
        text=text,
        policy=policies.get("p", Policy.NONE),
        subdomain_policy=policies.get("sp"),
        nonexistent_policy=policies.get("np"),
        strict_dkim=_is(tags, "adkim", "s"),
        strict_spf=_is(tags, "aspf", "s"),
        psd=next((value for value in "yn" if _is(tags, "psd", value)), "u"),
        testing=_is(tags, "t", "y"),
        aggregate_uris=aggregate_uris,
        failure_uris=_uris(tags.get("ruf", "")),
        failure_options=options if options <= _OPTIONS else frozenset("0"),
        problem=problem,
    )


def _policies(tags: dict[str, str], has_aggregate_uri: bool) -> tuple[dict[str, Policy], str]:
    """The policies of p, sp and np; none of them when one is invalid (RFC 9989 4.10.1)."""
    policies: dict[str, Policy] = {}
    for name in ("p", "sp", "np"):
        value = tags.get(name)
        if value is None:
            continue
        try:
            policies[name] = Policy(value.lower())
        except ValueError:
            problem = "" if has_aggregate_uri else f'"{name}={value[:32]}" is no policy, and there is no valid rua='
            return {}, problem
    return policies, ""


def _uris(value: str) -> tuple[str, ...]:
    """The valid URIs of a list. A size behind "!", which older records have, is dropped."""
    pieces = (piece.strip(" \t").partition("!")[0] for piece in value.split(",", MAX_URIS)[:MAX_URIS])
    return tuple(
        uri for uri in pieces if _URI.fullmatch(uri) and (uri[:7].lower() != "mailto:" or _MAILTO.fullmatch(uri))
    )


def _is(tags: dict[str, str], name: str, value: str) -> bool:
    return tags.get(name, "").lower() == value
