"""The policy of credentials on a connection."""

from __future__ import annotations

import pytest

from restante_gateways.net.authentication import AuthenticationPolicy, authentication_allowed


@pytest.mark.parametrize(
    ("policy", "tls", "loopback", "allowed"),
    [
        ("required", False, True, False),
        ("required", True, False, True),
        ("except-loopback", False, True, True),
        ("except-loopback", False, False, False),
        ("except-loopback", True, False, True),
    ],
)
def test_authentication_needs_tls_except_on_loopback_where_told(
    policy: str, tls: bool, loopback: bool, allowed: bool
) -> None:
    assert authentication_allowed(AuthenticationPolicy(policy), tls=tls, loopback=loopback) is allowed
