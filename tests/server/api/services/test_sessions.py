"""SessionService, through the dispatcher."""

from __future__ import annotations

from dataclasses import replace

import pytest

from restante.errors import (
    AuthenticationFailed,
    ExchangeInvalid,
    InvalidArgument,
    InvalidSession,
    MechanismNotSupported,
    PermissionDenied,
    RestanteError,
    SessionRevoked,
    TlsRequired,
    WeakPassword,
)
from restante.v1 import methods
from restante.v1.session_pb2 import (
    AuthenticateRequest,
    ChangePasswordRequest,
    ClientContext,
    GetMechanismsRequest,
    GetServerRequest,
    GetSessionRequest,
    LogoffRequest,
    RenewSessionRequest,
    Scope,
)
from restante_server.directory.settings import TlsRule
from tests.server.api.people import ADMIN, NATIVE, Bench, gateway, open_bench
from tests.server.directory.material import SETTINGS

BOB = ("bob@example.test", "bob-demo")


async def test_a_native_client_gets_the_whole_api(bench: Bench) -> None:
    session = await bench.login(*BOB)
    caller = await bench.caller(session)
    assert (session.address, session.display_name, session.scope) == (BOB[0], "Bob Builder", Scope.SCOPE_API)
    assert (caller.account_id, caller.mailbox_id, caller.scope) == (
        session.account_id,
        session.mailbox_id,
        Scope.SCOPE_API,
    )
    assert len(session.session_token) <= 64
    assert session.expires_at.seconds < session.renewable_until.seconds


@pytest.mark.parametrize(
    ("identity", "scope"),
    [("imap", Scope.SCOPE_IMAP), ("pop3", Scope.SCOPE_POP3), ("smtp", Scope.SCOPE_SMTP_SUBMIT)],
)
async def test_a_gateway_gets_sessions_of_its_own_protocol_alone(bench: Bench, identity: str, scope: int) -> None:
    stream, client = gateway(identity, tls=True)
    session = await bench.login(*BOB, scope=scope, caller=stream, client=client)
    assert (await bench.caller(session, stream)).scope == scope
    with pytest.raises(PermissionDenied):
        await bench.login(*BOB, scope=Scope.SCOPE_API, caller=stream, client=client)
    for other in (NATIVE, gateway("imap" if identity != "imap" else "pop3")[0]):
        with pytest.raises(InvalidSession):  # a stolen token is worth nothing elsewhere
            await bench.caller(session, other)


@pytest.mark.parametrize("identity", ["relay", "admin"])
async def test_processes_without_logins_cannot_bring_one(bench: Bench, identity: str) -> None:
    stream, client = gateway(identity, tls=True)
    with pytest.raises(PermissionDenied):
        await bench.login(*BOB, caller=stream, client=client)


async def test_only_gateways_speak_for_somebody_else(bench: Bench) -> None:
    with pytest.raises(PermissionDenied):
        await bench.login(*BOB, client=ClientContext(client_address="192.0.2.9", tls=True))
    with pytest.raises(InvalidArgument):
        await bench.login(*BOB, caller=gateway("imap")[0])


@pytest.mark.parametrize(
    ("rule", "tls", "loopback", "permitted"),
    [
        (TlsRule.REQUIRED, True, False, True),
        (TlsRule.REQUIRED, False, False, False),
        (TlsRule.REQUIRED, False, True, False),
        (TlsRule.EXCEPT_LOOPBACK, False, True, True),
        (TlsRule.EXCEPT_LOOPBACK, False, False, False),
    ],
)
async def test_passwords_travel_as_the_rule_allows(
    bench: Bench, rule: TlsRule, tls: bool, loopback: bool, permitted: bool
) -> None:
    ruled = await open_bench(bench.core.db, replace(SETTINGS, tls=rule))
    stream, client = gateway("imap", tls=tls, loopback=loopback)
    offered = await ruled.run(methods.GET_MECHANISMS, GetMechanismsRequest(client=client), stream)
    assert list(offered.mechanisms) == (["PLAIN", "LOGIN"] if permitted else [])
    if permitted:
        await ruled.login(*BOB, caller=stream, client=client)
    else:
        with pytest.raises(TlsRequired):
            await ruled.login(*BOB, caller=stream, client=client)
    ruled.core.directory.close()


async def test_a_proven_caller_reads_the_limits_that_hold(bench: Bench) -> None:
    caller = await bench.caller(await bench.login(*BOB))
    for proven in (caller, gateway("relay")[0], ADMIN):
        found = await bench.run(methods.GET_SERVER, GetServerRequest(), proven)
        assert found.limits.max_message_octets == bench.core.settings.limits.max_message_octets
        assert found.limits.account_streams == bench.core.settings.limits.account_streams
        assert {f"{method.service}/{method.name}" for method in methods.ALL} < set(found.rpcs)
    with pytest.raises(InvalidSession):
        await bench.run(methods.GET_SERVER, GetServerRequest(), NATIVE)


async def test_a_native_client_is_judged_by_its_own_connection(bench: Bench) -> None:
    with pytest.raises(TlsRequired):
        await bench.login(*BOB, caller=replace(NATIVE, encrypted=False))


async def test_login_in_two_steps_each_good_once_on_any_core(bench: Bench) -> None:
    other = await open_bench(bench.core.db)
    name = AuthenticateRequest(mechanism="LOGIN", response=BOB[0].encode())
    asked = await bench.run(methods.AUTHENTICATE, name)
    assert asked.challenge == b"Password:" and not asked.HasField("session")
    secret = AuthenticateRequest(mechanism="LOGIN", response=BOB[1].encode(), exchange=asked.exchange)
    assert (await other.run(methods.AUTHENTICATE, secret)).session.address == BOB[0]
    for core in (bench, other):
        with pytest.raises(ExchangeInvalid):
            await core.run(methods.AUTHENTICATE, secret)
    with pytest.raises(ExchangeInvalid):
        await bench.run(methods.AUTHENTICATE, AuthenticateRequest(mechanism="LOGIN", response=b"x", exchange=b"junk"))
    other.core.directory.close()


async def test_wrong_logins_are_answered_alike(bench: Bench) -> None:
    answers: list[tuple[type[RestanteError], str]] = []
    for name, password in ((BOB[0], "wrong word"), ("nobody@example.test", "bob-demo"), ("", "x"), (BOB[0], "")):
        with pytest.raises(AuthenticationFailed) as refused:
            await bench.login(name, password)
        answers.append((type(refused.value), refused.value.detail))
    assert len(set(answers)) == 1
    with pytest.raises(MechanismNotSupported):
        await bench.run(methods.AUTHENTICATE, AuthenticateRequest(mechanism="SCRAM-SHA-256"))


async def test_renewal_gives_another_token_for_the_same_session(bench: Bench) -> None:
    session = await bench.login(*BOB)
    caller = await bench.caller(session)
    renewed = (await bench.run(methods.RENEW_SESSION, RenewSessionRequest(), caller)).session
    assert renewed.session_token != session.session_token
    assert renewed.renewable_until == session.renewable_until
    described = (await bench.run(methods.GET_SESSION, GetSessionRequest(), await bench.caller(renewed))).session
    renewed.session_token = b""
    assert 0 < described.lifetime_milliseconds <= renewed.lifetime_milliseconds <= 900_000
    described.lifetime_milliseconds = renewed.lifetime_milliseconds  # less with each answer
    assert described == renewed
    with pytest.raises(InvalidSession):
        await bench.run(methods.RENEW_SESSION, RenewSessionRequest())


async def test_logoff_ends_the_session_and_its_renewed_tokens(bench: Bench) -> None:
    stays = await bench.login(*BOB)
    session = await bench.login(*BOB)
    caller = await bench.caller(session)
    renewed = (await bench.run(methods.RENEW_SESSION, RenewSessionRequest(), caller)).session
    await bench.run(methods.LOGOFF, LogoffRequest(), caller)
    for gone in (session, renewed):
        with pytest.raises(SessionRevoked):
            await bench.caller(gone)
    await bench.caller(stays)
    assert bench.ended[-1].session_token == session.session_token


async def test_a_new_password_ends_the_other_sessions_at_once(bench: Bench) -> None:
    other, alice = await bench.login(*BOB), await bench.login("alice@example.test", "alice-demo")
    mine = await bench.login(*BOB)
    request = ChangePasswordRequest(old_password="bob-demo", new_password="another word")
    session = (await bench.run(methods.CHANGE_PASSWORD, request, await bench.caller(mine))).session
    for gone in (other, mine):
        with pytest.raises(SessionRevoked):
            await bench.caller(gone)
    await bench.caller(session)
    await bench.caller(alice)
    told = bench.ended[-1]
    assert (told.account_id, told.credential_version) == (session.account_id, session.credential_version)
    with pytest.raises(AuthenticationFailed):
        await bench.login(*BOB)
    await bench.login(BOB[0], "another word")


async def test_a_new_password_needs_the_old_one_and_the_scope_api_and_strength(bench: Bench) -> None:
    caller = await bench.caller(await bench.login(*BOB))
    wrong = ChangePasswordRequest(old_password="not it", new_password="another word")
    with pytest.raises(AuthenticationFailed):
        await bench.run(methods.CHANGE_PASSWORD, wrong, caller)
    for weak in ("short", "bob@example.test", "Bob Builder"):
        request = ChangePasswordRequest(old_password="bob-demo", new_password=weak)
        with pytest.raises(WeakPassword):
            await bench.run(methods.CHANGE_PASSWORD, request, caller)
    stream, client = gateway("imap", tls=True)
    imap = await bench.caller(await bench.login(*BOB, caller=stream, client=client), stream)
    right = ChangePasswordRequest(old_password="bob-demo", new_password="another word")
    for caller, error in ((imap, PermissionDenied), (NATIVE, InvalidSession), (ADMIN, InvalidSession)):
        with pytest.raises(error):
            await bench.run(methods.CHANGE_PASSWORD, right, caller)
