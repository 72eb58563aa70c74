"""Account sessions: renewal, ends by announcements, confirmation after a gap in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from restante import errors
from restante.methods import Method, Request, Response
from restante.v1.session_pb2 import RenewSessionResponse, Session
from restante.v1.sync_pb2 import SessionsEnded
from restante_gateways.core.link import OnSessionsEnded
from restante_gateways.core.sessions import AccountSession, AccountSessions


class Core:
    """A core that renews a valid token, and refuses a lapsed or revoked one and one of another account."""

    def __init__(self, token_seconds: float = 900.0) -> None:
        self.token_seconds = token_seconds
        self.renewed: list[tuple[bytes, str]] = []
        self.failure: errors.RestanteError | None = None
        self.ended: list[OnSessionsEnded] = []
        self.resumed: list[Callable[[], None]] = []

    def session(self, token: bytes = b"t", account_id: int = 7, version: int = 1) -> Session:
        return Session(
            session_token=token,
            account_id=account_id,
            mailbox_id=account_id,
            credential_version=version,
            address="alice@example.test",
            lifetime_milliseconds=int(self.token_seconds * 1_000),
        )

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
        independent: bool = False,
    ) -> Response:
        self.renewed.append((session, client_address))
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        answer: Any = RenewSessionResponse(session=self.session(session + b"+"))
        return answer  # type: ignore[no-any-return]

    def on_sessions_ended(self, listener: OnSessionsEnded) -> None:
        self.ended.append(listener)

    def on_resumed(self, listener: Callable[[], None]) -> None:
        self.resumed.append(listener)


def keep(held: AccountSessions, session: Session) -> tuple[AccountSession, list[errors.RestanteError]]:
    over: list[errors.RestanteError] = []
    return held.keep(session, "192.0.2.1", over.append), over


async def test_a_token_is_renewed_again_and_again_by_the_client_address_of_its_session() -> None:
    core = Core(token_seconds=0.1)
    kept, over = keep(AccountSessions(core), core.session())
    await asyncio.sleep(0.3)
    kept.close()
    assert len(core.renewed) >= 2
    assert core.renewed[0] == (b"t", "192.0.2.1")
    assert core.renewed[1] == (b"t+", "192.0.2.1")
    assert kept.token.startswith(b"t++")
    assert over == []


async def test_a_core_that_is_away_is_asked_again_and_does_not_end_the_session() -> None:
    core = Core(token_seconds=0.2)
    core.failure = errors.Draining()
    kept, over = keep(AccountSessions(core), core.session())
    await asyncio.sleep(0.3)
    assert len(core.renewed) >= 3
    assert over == []
    core.failure = None
    await asyncio.sleep(0.1)
    assert kept.token != b"t"
    kept.close()


@pytest.mark.parametrize("refusal", [errors.SessionExpired(), errors.SessionRevoked(), errors.InvalidSession()])
async def test_a_refused_renewal_ends_the_session_once(refusal: errors.RestanteError) -> None:
    core = Core(token_seconds=0.1)
    core.failure = refusal
    held = AccountSessions(core)
    kept, over = keep(held, core.session())
    await asyncio.sleep(0.2)
    assert over == [refusal]
    assert list(held) == []
    held.ended(SessionsEnded(account_id=7, credential_version=9))
    kept.end(errors.SessionRevoked())
    assert over == [refusal]


async def test_a_closed_session_is_renewed_no_more_and_its_end_is_nobodys_concern() -> None:
    core = Core(token_seconds=0.1)
    held = AccountSessions(core)
    kept, over = keep(held, core.session())
    kept.close()
    kept.close()
    held.ended(SessionsEnded(account_id=7, credential_version=9))
    await asyncio.sleep(0.15)
    assert core.renewed == []
    assert over == []
    assert list(held) == []


async def test_an_announcement_ends_the_sessions_below_its_version_and_no_others() -> None:
    core = Core()
    held = AccountSessions(core)
    held.follow(core)
    old, new, other = (
        keep(held, core.session(b"a", version=1)),
        keep(held, core.session(b"b", version=2)),
        keep(held, core.session(b"c", account_id=8)),
    )
    (announce,) = core.ended
    announce(SessionsEnded(account_id=7, credential_version=2))
    assert [type(error) for error in old[1]] == [errors.SessionRevoked]
    assert new[1] == other[1] == []
    assert set(held) == {new[0], other[0]}


async def test_an_announcement_of_one_token_ends_that_session_alone() -> None:
    core = Core()
    held = AccountSessions(core)
    first, second = keep(held, core.session(b"a")), keep(held, core.session(b"b"))
    held.ended(SessionsEnded(account_id=7, credential_version=9, session_token=b"b"))
    assert first[1] == []
    assert len(second[1]) == 1


async def test_after_a_gap_in_the_watch_the_core_confirms_every_session() -> None:
    core = Core()
    held = AccountSessions(core, confirmed_within_seconds=0.05)
    held.follow(core)
    (good, over), (revoked, told) = keep(held, core.session(b"a")), keep(held, core.session(b"b", account_id=8))
    (resume,) = core.resumed
    resume()
    await asyncio.sleep(0.15)
    assert {token for token, _ in core.renewed} == {b"a", b"b"}
    core.failure = errors.SessionRevoked()
    resume()
    await asyncio.sleep(0.15)
    assert len(over) == len(told) == 1
    assert good.end_reason is revoked.end_reason is core.failure
