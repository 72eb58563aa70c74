"""Generated results of checks, within the bounds of the contract."""

from __future__ import annotations

from hypothesis import strategies as st

from restante_mail.authentication import bounds
from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    DnsListResult,
    Identity,
    Policy,
    Result,
    ReverseDnsResult,
    SpfResult,
)

_printable = st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"))
NAMES = st.text(_printable, max_size=bounds.NAME_OCTETS // 4)
TEXTS = st.text(_printable | st.just(" "), max_size=bounds.TEXT_OCTETS // 4)
TOKENS = st.text(_printable, max_size=bounds.TOKEN_OCTETS // 4)


def _results(*names: str) -> st.SearchStrategy[Result]:
    return st.sampled_from([Result(name) for name in names])


SPF = st.builds(
    SpfResult,
    _results("none", "pass", "fail", "softfail", "neutral", "temperror", "permerror"),
    st.sampled_from(Identity),
    NAMES,
    TEXTS,
    TEXTS,
    TEXTS,
    TEXTS,
)
DKIM = st.builds(
    DkimResult,
    _results("none", "pass", "fail", "neutral", "policy", "temperror", "permerror"),
    NAMES,
    NAMES,
    TEXTS,
    TOKENS,
    st.integers(0, 8_192),
    TOKENS,
    st.booleans(),
    st.booleans(),
    TEXTS,
)
DMARC = st.builds(
    DmarcResult,
    _results("none", "pass", "fail", "temperror", "permerror"),
    NAMES,
    NAMES,
    NAMES,
    st.sampled_from(Policy),
    TEXTS,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    TEXTS,
    st.lists(TOKENS, max_size=3).map(tuple),
    st.lists(TOKENS, max_size=3).map(tuple),
)
ARC = st.builds(
    ArcResult,
    _results("none", "pass", "fail", "temperror"),
    st.lists(NAMES, max_size=3).map(tuple),
    st.integers(0, 50),
    st.lists(TEXTS, max_size=3).map(tuple),
    TEXTS,
)
REVERSE_DNS = st.builds(ReverseDnsResult, _results("pass", "fail", "temperror", "permerror"), NAMES)
DNS_LIST = st.builds(
    DnsListResult,
    NAMES,
    st.booleans(),
    st.lists(TOKENS, max_size=3).map(tuple),
    st.floats(-bounds.MAX_WEIGHT, bounds.MAX_WEIGHT),
    TEXTS,
)
CHECKS = st.builds(
    Checks,
    spf=st.lists(SPF, max_size=bounds.MAX_SPF).map(tuple),
    dkim=st.lists(DKIM, max_size=4).map(tuple),
    dmarc=st.none() | DMARC,
    arc=st.none() | ARC,
    reverse_dns=st.none() | REVERSE_DNS,
    dns_lists=st.lists(DNS_LIST, max_size=3).map(tuple),
)
