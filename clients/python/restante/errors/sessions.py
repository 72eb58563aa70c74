"""Reasons of sessions, logging on and rights."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import RestanteError


class AuthenticationFailed(RestanteError):
    reason = "AUTHENTICATION_FAILED"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "Wrong name or password, a disabled account, or a credential without the requested scope."


class InvalidSession(RestanteError):
    reason = "INVALID_SESSION"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "The call has no valid session token or gateway identity; log in."


class SessionExpired(RestanteError):
    reason = "SESSION_EXPIRED"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "The session token has expired; log in again."


class SessionRevoked(RestanteError):
    reason = "SESSION_REVOKED"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = (
        "The session was ended by logout, a password change, or disabling of the account or credential; log in again."
    )


class ExchangeInvalid(RestanteError):
    reason = "EXCHANGE_INVALID"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "The SASL exchange is unknown, was used before or has expired; begin again."


class MechanismNotSupported(RestanteError):
    reason = "MECHANISM_NOT_SUPPORTED"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("mechanism",)
    caused_by_client = True
    text = "The SASL mechanism is not supported."


class TlsRequired(RestanteError):
    reason = "TLS_REQUIRED"
    code = StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "Authentication needs TLS."


class TooManyAttempts(RestanteError):
    reason = "TOO_MANY_ATTEMPTS"
    code = StatusCode.RESOURCE_EXHAUSTED
    keys = ("retry_seconds",)
    caused_by_client = True
    text = "Too many failed logins; try again later."


class PermissionDenied(RestanteError):
    reason = "PERMISSION_DENIED"
    code = StatusCode.PERMISSION_DENIED
    keys = ("permission",)
    caused_by_client = True
    text = "The caller has no right to do this."


class WeakPassword(RestanteError):
    reason = "WEAK_PASSWORD"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("problem",)
    caused_by_client = True
    text = "The new password is too weak."
