"""Whether credentials may cross a connection (pure)."""

from __future__ import annotations

import enum


class AuthenticationPolicy(enum.Enum):
    """`tls.authentication`: whether credentials may cross a connection without TLS."""

    REQUIRED = "required"
    EXCEPT_LOOPBACK = "except-loopback"


def authentication_allowed(policy: AuthenticationPolicy, *, tls: bool, loopback: bool) -> bool:
    """Whether a connection may authenticate. `loopback` is judged by the socket, never by a PROXY header."""
    return tls or (policy is AuthenticationPolicy.EXCEPT_LOOPBACK and loopback)
