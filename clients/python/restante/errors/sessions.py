"""Reasons of sessions, logging on and rights."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import RestanteError


class AuthenticationFailed(RestanteError):
    reason = "AUTHENTICATION_FAILED"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "Wrong name or password, an account that is switched off, or a credential without the scope asked for."


class InvalidSession(RestanteError):
    reason = "INVALID_SESSION"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "No session token or gateway identity came with the call, or one that was not issued here."


class SessionExpired(RestanteError):
    reason = "SESSION_EXPIRED"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "The session token is past its time."


class SessionRevoked(RestanteError):
    reason = "SESSION_REVOKED"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "The session was ended: logged off, password changed, account disabled or credential revoked."


class ExchangeInvalid(RestanteError):
    reason = "EXCHANGE_INVALID"
    code = StatusCode.UNAUTHENTICATED
    caused_by_client = True
    text = "The exchange of a SASL step is unknown, used before or past its time."


class MechanismNotSupported(RestanteError):
    reason = "MECHANISM_NOT_SUPPORTED"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("mechanism",)
    caused_by_client = True
    text = "The SASL mechanism is not offered."


class TlsRequired(RestanteError):
    reason = "TLS_REQUIRED"
    code = StatusCode.FAILED_PRECONDITION
    caused_by_client = True
    text = "Authentication is not allowed without TLS here."


class TooManyAttempts(RestanteError):
    reason = "TOO_MANY_ATTEMPTS"
    code = StatusCode.RESOURCE_EXHAUSTED
    keys = ("retry_seconds",)
    caused_by_client = True
    text = "Too many failed logins from this address."


class PermissionDenied(RestanteError):
    reason = "PERMISSION_DENIED"
    code = StatusCode.PERMISSION_DENIED
    keys = ("permission",)
    caused_by_client = True
    text = "The caller is known but has no right to this."


class WeakPassword(RestanteError):
    reason = "WEAK_PASSWORD"
    code = StatusCode.INVALID_ARGUMENT
    keys = ("problem",)
    caused_by_client = True
    text = "The new password is too short or equal to the name."
