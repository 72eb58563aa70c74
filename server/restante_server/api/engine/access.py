"""Rights, in one place: who may call what, and which mailbox a caller may open."""

from __future__ import annotations

from collections.abc import Callable

from restante.errors import InvalidSession, MailboxNotFound, PermissionDenied
from restante.v1.session_pb2 import Scope
from restante_server.api.engine.caller import Caller

Rule = Callable[[Caller], None]
"""Raises InvalidSession or PermissionDenied when the caller may not make the call at all."""


def anyone(caller: Caller) -> None:
    """No proof is needed: the call is how one gets it."""


def sessions(*scopes: Scope.ValueType) -> Rule:
    """Sessions with one of these scopes."""
    permitted = frozenset(scopes)

    def rule(caller: Caller) -> None:
        if not caller.account_id:
            raise InvalidSession
        if caller.scope not in permitted:
            raise PermissionDenied(permission=Scope.Name(Scope.ValueType(caller.scope)))

    return rule


def identities(*names: str, or_sessions: tuple[Scope.ValueType, ...] = ()) -> Rule:
    """Processes with one of these identities on their own account, or sessions with one of these scopes."""
    permitted, scopes = frozenset(names), sessions(*or_sessions)

    def rule(caller: Caller) -> None:
        if caller.account_id:
            scopes(caller)
        elif caller.identity not in permitted:
            if caller.identity:
                raise PermissionDenied(permission=caller.identity)
            raise InvalidSession

    return rule


def administrators(caller: Caller) -> None:
    """The admin identity, or an account that is an administrator, in a session with the scope api."""
    if caller.account_id:
        if not (caller.administrator and caller.scope == Scope.SCOPE_API):
            raise PermissionDenied(permission="administrator")
    elif caller.identity != "admin":
        if caller.identity:
            raise PermissionDenied(permission="administrator")
        raise InvalidSession


LOGIN_SCOPES: dict[str, tuple[Scope.ValueType, ...]] = {
    "": (Scope.SCOPE_API, Scope.SCOPE_IMAP, Scope.SCOPE_POP3, Scope.SCOPE_SMTP_SUBMIT),  # a native client may want less
    "imap": (Scope.SCOPE_IMAP,),
    "pop3": (Scope.SCOPE_POP3,),
    "smtp": (Scope.SCOPE_SMTP_SUBMIT,),
}
"""Who may bring a login, and for what: a gateway gets sessions of its own protocol alone."""


def may_authenticate(caller: Caller) -> None:
    """Native clients, and the gateways whose protocol has logins."""
    if caller.identity not in LOGIN_SCOPES:
        raise PermissionDenied(permission="authenticate")


def login_scope(identity: str, requested: Scope.ValueType) -> Scope.ValueType:
    """The scope that a login gets, the first permitted one where none was asked for. Raises PermissionDenied."""
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
UPLOAD_SESSION = sessions(Scope.SCOPE_API, Scope.SCOPE_IMAP, Scope.SCOPE_SMTP_SUBMIT)


def mailbox_id(caller: Caller, requested: int) -> int:
    """The mailbox meant, 0 standing for the caller's own.

    Raises MailboxNotFound for every other mailbox, there or not: nobody learns which ids exist.
    """
    own = caller.mailbox_id
    if not own:
        raise InvalidSession
    if requested not in (0, own):
        raise MailboxNotFound(mailbox_id=requested)
    return own
