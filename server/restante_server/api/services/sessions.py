"""SessionService: login, sessions and passwords."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from restante.errors import (
    AuthenticationFailed,
    InvalidArgument,
    InvalidSession,
    PermissionDenied,
    SessionRevoked,
    TlsRequired,
    TooManyAttempts,
)
from restante.v1 import methods
from restante.v1.session_pb2 import (
    AuthenticateRequest,
    AuthenticateResponse,
    ChangePasswordRequest,
    ChangePasswordResponse,
    ClientContext,
    GetMechanismsRequest,
    GetMechanismsResponse,
    GetSessionRequest,
    GetSessionResponse,
    LogoffRequest,
    LogoffResponse,
    RenewSessionRequest,
    RenewSessionResponse,
    Scope,
    Session,
)
from restante_server.api.engine import access
from restante_server.api.engine.access import ANY_SESSION, API_SESSION
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.db.operation import Write
from restante_server.directory import accounts, credentials, exchanges, sasl, states
from restante_server.directory.sasl import Challenge
from restante_server.directory.secret import Secret
from restante_server.directory.sessions import Issued, OpenSession
from restante_server.directory.settings import TlsRule

handlers = Handlers()

SECOND = 1_000_000  # microseconds


class _Client(NamedTuple):
    """The client's address and transport security."""

    address: str
    protected: bool  # nobody can read its octets on the network
    loopback: bool


@handlers.direct(methods.AUTHENTICATE, rule=access.may_authenticate)
async def authenticate(call: Call, request: AuthenticateRequest) -> AuthenticateResponse:
    """Run one step of a SASL exchange."""
    directory, identity = call.core.directory, call.caller.identity
    client = _client(call, request.client if request.HasField("client") else None)
    scope = access.login_scope(identity, request.scope)
    if not _may_send_password(call, client):
        raise TlsRequired
    binding = f"{request.mechanism}:{identity}:{scope}".encode()
    state = b""
    if request.exchange:
        exchange_id, expires_at, state = exchanges.unseal(directory.keys, binding, request.exchange, call.now)
        await directory.db.write(Write(lambda tx: exchanges.use(tx, exchange_id, expires_at)))
    response = request.response if request.HasField("response") else None
    outcome = sasl.step(request.mechanism, response, state)
    if isinstance(outcome, Challenge):
        expires_at = call.now + directory.settings.exchange_seconds * SECOND
        exchange = exchanges.seal(directory.keys, binding, outcome.state, expires_at)
        return AuthenticateResponse(challenge=outcome.octets, exchange=exchange)
    try:
        account = await directory.logins.prove(outcome.name, outcome.password, scope, client.address, call.now)
    except (AuthenticationFailed, TooManyAttempts) as error:
        call.core.logins.failed(identity or "api", error.reason, outcome.name, client.address)
        raise
    issued = directory.sessions.begin(account, identity, scope, call.now)
    return AuthenticateResponse(session=_issued(issued, call.now))


@handlers.direct(methods.GET_MECHANISMS, rule=access.may_authenticate)
async def get_mechanisms(call: Call, request: GetMechanismsRequest) -> GetMechanismsResponse:
    """The SASL mechanisms; none if the client needs TLS first."""
    client = _client(call, request.client if request.HasField("client") else None)
    return GetMechanismsResponse(mechanisms=sasl.MECHANISMS if _may_send_password(call, client) else ())


@handlers.direct(methods.RENEW_SESSION, rule=ANY_SESSION)
async def renew_session(call: Call, request: RenewSessionRequest) -> RenewSessionResponse:
    """Check the session again and issue a fresh token."""
    sessions = call.core.directory.sessions
    issued = await sessions.renew(await _own_session(call), call.now)
    call.core.guards.renewed(call.caller.session_id, issued.expires_at)
    return RenewSessionResponse(session=_issued(issued, call.now))


@handlers.direct(methods.LOGOFF, rule=ANY_SESSION)
async def logoff(call: Call, request: LogoffRequest) -> LogoffResponse:
    """End the session at every core."""
    directory, caller = call.core.directory, call.caller
    lifetime = directory.settings.sessions.token_seconds

    def write(tx: Connection) -> None:
        states.revoke(tx, caller.account_id, caller.session_id, caller.token, lifetime)

    await directory.db.write(Write(write))
    return LogoffResponse()


@handlers.direct(methods.GET_SESSION, rule=ANY_SESSION)
async def get_session(call: Call, request: GetSessionRequest) -> GetSessionResponse:
    """The session's account and times, without the token."""
    session = await _own_session(call)
    times = call.core.directory.sessions.times(session.token)
    return GetSessionResponse(session=_described(session, *times, call.now))


@handlers.direct(methods.CHANGE_PASSWORD, rule=API_SESSION)
async def change_password(call: Call, request: ChangePasswordRequest) -> ChangePasswordResponse:
    """Prove the old password, set the new one, end every session, begin a new one."""
    directory, caller = call.core.directory, call.caller
    old, new = Secret(request.old_password), Secret(request.new_password)
    state = await directory.logins.prove(caller.address, old, caller.scope, caller.client_address, call.now)
    if state.account_id != caller.account_id:
        raise SessionRevoked  # the address now belongs to another account
    credentials.check_strength(new, *credentials.names_of(state.address, state.display_name))
    verifier = await directory.passwords.hash(new)

    def write(tx: Connection) -> states.AccountState:
        # Of two changes at the same time, the second has proved a password that is no longer valid.
        before = states.fetch(tx, caller.account_id)
        if before is None or before.credential_version != state.credential_version:
            raise SessionRevoked
        accounts.set_password(tx, caller.account_id, verifier)
        after = states.fetch(tx, caller.account_id)
        assert after is not None
        return after

    after = await directory.db.write(Write(write, rows=3))
    issued = directory.sessions.begin(after, caller.identity, caller.scope, call.now)
    return ChangePasswordResponse(session=_issued(issued, call.now))


def _client(call: Call, context: ClientContext | None) -> _Client:
    """The client's address and transport security: as a gateway reports them, or as this process sees a native client.

    Raises InvalidArgument, PermissionDenied.
    """
    caller = call.caller
    if caller.identity:
        if context is None:
            raise InvalidArgument(field="client", problem="is required: a gateway must name its client's address")
        return _Client(context.client_address, context.tls, context.loopback)
    if context is not None:
        raise PermissionDenied(permission="client")
    return _Client(caller.client_address, caller.encrypted, False)


def _may_send_password(call: Call, client: _Client) -> bool:
    """Whether the configured rule `tls.authentication` lets the client send a password."""
    loopback_is_enough = call.core.directory.settings.tls is TlsRule.EXCEPT_LOOPBACK
    return client.protected or (client.loopback and loopback_is_enough)


async def _own_session(call: Call) -> OpenSession:
    if not call.caller.token:
        raise InvalidSession
    return await call.core.directory.sessions.open(call.caller.token, call.now)


def _issued(issued: Issued, now: int) -> Session:
    session = _described(issued.session, issued.expires_at, issued.renewable_until, now)
    session.session_token = issued.session_token
    return session


def _described(session: OpenSession, expires_at: int, renewable_until: int, now: int) -> Session:
    state, token = session.state, session.token
    described = Session(
        account_id=state.account_id,
        credential_version=token.credential_version,
        mailbox_id=state.mailbox_id,
        address=state.address,
        display_name=state.display_name,
        scope=Scope.ValueType(token.scope),
        lifetime_milliseconds=max(0, expires_at - now) // 1_000,
    )
    described.expires_at.FromMicroseconds(expires_at)
    described.renewable_until.FromMicroseconds(renewable_until)
    return described
