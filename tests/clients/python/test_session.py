"""A user's session: renewal in time, another login after its longest life, and its end."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from restante import errors
from restante.session import UserSession
from restante.v1.batch_pb2 import Operation, OperationResult
from restante.v1.session_pb2 import AuthenticateResponse, ChangePasswordResponse, RenewSessionResponse, Session
from restante.v1.sync_pb2 import SessionsEnded
from tests.clients.python.conftest import Batches, Servers, answer, refusal
from tests.clients.python.test_watch import until


class Accounts:
    """The core's sessions of one account."""

    def __init__(self, token_seconds: float = 900.0) -> None:
        self.token_seconds, self.version = token_seconds, 1
        self.clocks_differ_by = timedelta()  # of server and client
        self.refuse_renewal: errors.RestanteError | None = None
        self.log_ons = self.renewals = 0

    def session(self) -> Session:
        made = Session(
            session_token=secrets.token_bytes(8),
            account_id=7,
            mailbox_id=7,
            credential_version=self.version,
            address="alice@example.org",
        )
        made.expires_at.FromDatetime(datetime.now(UTC) + self.clocks_differ_by)
        made.lifetime_milliseconds = int(self.token_seconds * 1_000)
        return made

    async def reply(self, operation: Operation) -> OperationResult | None:
        if operation.HasField("authenticate"):
            self.log_ons += 1
            if operation.authenticate.response not in (b"\0alice\0secret", b"\0alice@example.org\0secret"):
                return refusal(operation, errors.AuthenticationFailed())
            return answer(operation, authenticate=AuthenticateResponse(session=self.session()))
        if operation.HasField("change_password"):
            self.version += 1
            return answer(operation, change_password=ChangePasswordResponse(session=self.session()))
        self.renewals += 1
        if self.refuse_renewal is not None:
            return refusal(operation, self.refuse_renewal)
        return answer(operation, renew_session=RenewSessionResponse(session=self.session()))


async def log_on(servers: Servers, accounts: Accounts, *, keep_password: bool = True) -> tuple[UserSession, Batches]:
    core = await servers.batches(accounts.reply)
    link = await servers.link()
    return await UserSession.log_on(link, "alice", "secret", keep_password=keep_password), core


@pytest.mark.parametrize("hours", [-5, 0, 5])
@pytest.mark.parametrize(("left", "wait"), [(900.0, 450.0), (30.0, 15.0), (0.0, 0.2)])
async def test_a_token_is_renewed_well_before_it_lapses_whatever_the_clocks(
    servers: Servers, left: float, wait: float, hours: int
) -> None:
    accounts = Accounts(token_seconds=left)
    accounts.clocks_differ_by = timedelta(hours=hours)
    session, _ = await log_on(servers, accounts)
    assert 0.9 * wait - 0.1 <= session.renewal_in_seconds <= wait
    assert session.left_seconds == pytest.approx(left, abs=0.1)


async def test_renewal_goes_on_and_each_token_is_announced(servers: Servers) -> None:
    accounts = Accounts(token_seconds=0.1)
    session, _ = await log_on(servers, accounts)
    tokens = {session.token}
    session.on_change = lambda fresh: tokens.add(fresh.session_token)
    session.keep_fresh()
    await until(lambda: accounts.renewals >= 3)
    await session.close()
    assert session.token in tokens
    assert len(tokens) >= 3
    assert not session.ended.is_set()


async def test_a_core_that_is_busy_does_not_end_a_session(servers: Servers) -> None:
    accounts = Accounts(token_seconds=0.2)
    session, _ = await log_on(servers, accounts)
    accounts.refuse_renewal = errors.StoreBusy()
    session.keep_fresh()
    await until(lambda: accounts.renewals >= 3)
    assert not session.ended.is_set()
    before, accounts.refuse_renewal = session.token, None
    await until(lambda: session.token != before)
    await session.close()


async def test_after_its_day_a_session_is_begun_anew_where_the_password_is_kept(servers: Servers) -> None:
    accounts = Accounts()
    session, _ = await log_on(servers, accounts)
    accounts.refuse_renewal = errors.SessionExpired()
    await session.renew()
    assert accounts.log_ons == 2
    assert not session.ended.is_set()


async def test_after_its_day_a_session_ends_where_it_is_not(servers: Servers) -> None:
    accounts = Accounts(token_seconds=0.1)
    session, _ = await log_on(servers, accounts, keep_password=False)
    accounts.refuse_renewal = errors.SessionExpired()
    session.keep_fresh()
    await asyncio.wait_for(session.ended.wait(), 5)
    assert isinstance(session.end_reason, errors.SessionExpired)
    assert accounts.log_ons == 1


async def test_a_revoked_session_is_over_whatever_password_is_kept(servers: Servers) -> None:
    accounts = Accounts()
    session, _ = await log_on(servers, accounts)
    accounts.refuse_renewal = errors.SessionRevoked()
    session.others_ended(SessionsEnded(account_id=7, credential_version=2))
    await asyncio.wait_for(session.ended.wait(), 5)
    assert isinstance(session.end_reason, errors.SessionRevoked)
    assert accounts.log_ons == 1


async def test_endings_of_others_are_passed_over(servers: Servers) -> None:
    accounts = Accounts()
    session, _ = await log_on(servers, accounts)
    session.others_ended(SessionsEnded(account_id=8, credential_version=9))
    session.others_ended(SessionsEnded(account_id=7, credential_version=1))
    await asyncio.sleep(0.1)
    assert accounts.renewals == 0
    assert not session.ended.is_set()


async def test_changing_the_password_replaces_the_session_and_does_not_end_it(servers: Servers) -> None:
    accounts = Accounts()
    session, _ = await log_on(servers, accounts)
    before = session.token
    changing = asyncio.create_task(session.change_password("secret", "another secret"))
    await asyncio.sleep(0)
    session.others_ended(SessionsEnded(account_id=7, credential_version=2))  # may come before the answer
    await changing
    await asyncio.sleep(0.1)
    assert session.token != before
    assert session.info.credential_version == 2
    assert not session.ended.is_set()


async def test_several_who_want_a_renewal_at_once_get_one(servers: Servers) -> None:
    accounts = Accounts()
    session, _ = await log_on(servers, accounts)
    await asyncio.gather(*(session.renew() for _ in range(5)))
    assert accounts.renewals == 1


async def test_a_wrong_password_is_told(servers: Servers) -> None:
    await servers.batches(Accounts().reply)
    with pytest.raises(errors.AuthenticationFailed):
        await UserSession.log_on(await servers.link(), "alice", "wrong")
