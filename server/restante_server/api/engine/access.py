"""The access rules of the API: the callers that each RPC admits, and the mailbox that a caller may open."""

from __future__ import annotations

from collections.abc import Callable

from restante.errors import InvalidSession, MailboxNotFound, PermissionDenied
from restante.v1.session_pb2 import Scope
from restante_server.api.engine.caller import Caller

Rule = Callable[[Caller], None]
"""Raises InvalidSession or PermissionDenied when the caller may not make the call at all."""


def sessions(*scopes: Scope.ValueType) -> Rule:
    """The rule that admits sessions with one of these scopes."""
    permitted = frozenset(scopes)

    def rule(caller: Caller) -> None:
        if not caller.account_id:
            raise InvalidSession
        if caller.scope not in permitted:
            raise PermissionDenied(permission=Scope.Name(Scope.ValueType(caller.scope)))

    return rule


def identities(*names: str, or_sessions: tuple[Scope.ValueType, ...] = ()) -> Rule:
    """The rule that admits sessions with one of these scopes, and processes with one of these identities.

    A process is admitted without a session only.
    """
    permitted, scopes = frozenset(names), sessions(*or_sessions)

    def rule(caller: Caller) -> None:
        if caller.account_id:
            scopes(caller)
        elif caller.identity not in permitted:
            if caller.identity:
                raise PermissionDenied(permission=caller.identity)
            raise InvalidSession

    return rule


def sessions_behind(identity: str, *scopes: Scope.ValueType) -> Rule:
    """The rule that admits sessions with one of these scopes whose calls come from a process with this identity."""
    admitted = sessions(*scopes)

    def rule(caller: Caller) -> None:
        admitted(caller)
        if caller.identity != identity:
            raise PermissionDenied(permission=f"{identity} gateway")

    return rule


def administrators(caller: Caller) -> None:
    """Admit the admin identity, and an administrator's account in a session with the scope api."""
    if caller.account_id:
        if not (caller.administrator and caller.scope == Scope.SCOPE_API):
            raise PermissionDenied(permission="administrator")
    elif caller.identity != "admin":
        if caller.identity:
            raise PermissionDenied(permission="administrator")
        raise InvalidSession


LOGIN_SCOPES: dict[str, tuple[Scope.ValueType, ...]] = {
    "": (Scope.SCOPE_API, Scope.SCOPE_IMAP, Scope.SCOPE_POP3, Scope.SCOPE_SMTP_SUBMIT),  # native: any of them
    "imap": (Scope.SCOPE_IMAP,),
    "pop3": (Scope.SCOPE_POP3,),
    "smtp": (Scope.SCOPE_SMTP_SUBMIT,),
}
"""The session scopes that each client may log in for, by process identity ("": a native client).

A gateway gets sessions of its own protocol alone.
"""


def may_authenticate(caller: Caller) -> None:
    """Admit native clients, and the gateways whose protocol has logins."""
    if caller.identity not in LOGIN_SCOPES:
        raise PermissionDenied(permission="authenticate")


def login_scope(identity: str, requested: Scope.ValueType) -> Scope.ValueType:
    """The scope of a new session: the requested one, or the first permitted one if the request names none.

    Raises PermissionDenied.
    """
    permitted = LOGIN_SCOPES.get(identity, ())
    scope = requested or (permitted[0] if permitted else Scope.SCOPE_UNSPECIFIED)
    if scope not in permitted:
        raise PermissionDenied(permission=f"scope {scope}")
    return scope


API_SESSION = sessions(Scope.SCOPE_API)
ANY_SESSION = sessions(Scope.SCOPE_API, Scope.SCOPE_IMAP, Scope.SCOPE_POP3, Scope.SCOPE_SMTP_SUBMIT)
MAIL_SESSION = sessions(Scope.SCOPE_API, Scope.SCOPE_IMAP)
READ_SESSION = sessions(Scope.SCOPE_API, Scope.SCOPE_IMAP, Scope.SCOPE_POP3)
MAILDROP_SESSION = sessions(Scope.SCOPE_API, Scope.SCOPE_POP3)
SUBMIT_SESSION = sessions(Scope.SCOPE_API, Scope.SCOPE_SMTP_SUBMIT)
SMTP_SUBMISSION = sessions_behind("smtp", Scope.SCOPE_SMTP_SUBMIT)
UPLOAD_SESSION = sessions(Scope.SCOPE_API, Scope.SCOPE_IMAP, Scope.SCOPE_SMTP_SUBMIT)


def named(caller: Caller, requested: int) -> int:
    """The id of the mailbox that a request names; 0 means the caller's own.

    Reads nothing: it refuses, before anything is queued, a mailbox that the caller's session may not name at all. The
    transaction then decides the rights (`rights.decide`). Raises InvalidSession without a session. Raises
    MailboxNotFound for every mailbox but the own one, whether it exists or not, so that callers cannot learn which ids
    exist.
    """
    own = caller.mailbox_id
    if not own:
        raise InvalidSession
    if requested not in (0, own):
        raise MailboxNotFound(mailbox_id=requested)
    return own
