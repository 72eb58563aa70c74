"""The policy for credentials on connections without TLS. *Pure.*"""

from __future__ import annotations

import enum


class AuthenticationPolicy(enum.Enum):
    """The setting `tls.authentication`: whether a client may send credentials without TLS."""

    REQUIRED = "required"
    EXCEPT_LOOPBACK = "except-loopback"


def authentication_allowed(policy: AuthenticationPolicy, *, tls: bool, loopback: bool) -> bool:
    """Whether a connection may authenticate. `loopback` must come from the socket, never from a PROXY header."""
    return tls or (policy is AuthenticationPolicy.EXCEPT_LOOPBACK and loopback)
