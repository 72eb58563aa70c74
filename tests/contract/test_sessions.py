"""Sessions by the contract: login, renewal, lapse, and their end by a new password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante import errors
from restante.link import CoreLink
from restante.v1 import methods
from restante.v1.session_pb2 import (
    SCOPE_IMAP,
    AuthenticateRequest,
    ClientContext,
    RenewSessionRequest,
    Session,
)
from tests.harness.local_core import LocalCore, open_local_core, prepare_store

ALICE, PASSWORD = "alice@example.test", "alice-demo"
TOKEN_SECONDS = 3.0
LAPSED_SECONDS = TOKEN_SECONDS + 0.3


class Core:
    """A core's sessions, as a gateway calls them."""

    def __init__(self, local: LocalCore, imap: CoreLink) -> None:
        self._local, self._imap = local, imap

    async def authenticate(self, request: AuthenticateRequest) -> Session:
        return (await self._imap.execute(methods.AUTHENTICATE, request)).session

    async def renew(self, token: bytes) -> Session:
        return (await self._imap.execute(methods.RENEW_SESSION, RenewSessionRequest(), session=token)).session

    async def set_password(self, password: str) -> None:
        await self._local.set_password("alice", password)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sessions") / "data"
    prepare_store(directory)
    return directory


@pytest.fixture
async def core(template: Path, tmp_path: Path) -> AsyncIterator[Core]:
    settings = {"sessions.token_minutes": TOKEN_SECONDS / 60}
    async with open_local_core(template, tmp_path / "data", **settings) as local:
        yield Core(local, await local.link("imap"))


def login(response: bytes, mechanism: str = "PLAIN") -> AuthenticateRequest:
    client = ClientContext(client_address="127.0.0.1", listener="imap", loopback=True)
    return AuthenticateRequest(mechanism=mechanism, response=response, scope=SCOPE_IMAP, client=client)


def plain(password: str = PASSWORD, name: str = ALICE) -> AuthenticateRequest:
    return login(f"\0{name}\0{password}".encode())


async def test_a_login_gives_a_session(core: Core) -> None:
    session = await core.authenticate(plain())
    assert session.address == ALICE
    assert session.account_id and session.mailbox_id and session.credential_version
    assert 0 < len(session.session_token) <= 64
    assert 0 < session.lifetime_milliseconds <= TOKEN_SECONDS * 1_000


@pytest.mark.parametrize(
    "request_", [plain("wrong"), plain(name="nobody@example.test"), login(b"junk")], ids=["password", "name", "form"]
)
async def test_what_proves_nothing_is_refused(core: Core, request_: AuthenticateRequest) -> None:
    with pytest.raises(errors.AuthenticationFailed):
        await core.authenticate(request_)


async def test_a_mechanism_that_is_not_known_is_named(core: Core) -> None:
    with pytest.raises(errors.MechanismNotSupported) as refusal:
        await core.authenticate(login(b"x", "X-NONE"))
    assert refusal.value.metadata["mechanism"] == "X-NONE"


async def test_a_renewed_session_has_another_token_and_the_old_one_is_good_until_it_lapses(core: Core) -> None:
    first = await core.authenticate(plain())
    second = await core.renew(first.session_token)
    assert second.session_token != first.session_token
    assert (second.account_id, second.credential_version) == (first.account_id, first.credential_version)
    assert (await core.renew(first.session_token)).account_id == first.account_id


async def test_a_token_that_has_lapsed_is_not_renewed(core: Core) -> None:
    first = await core.authenticate(plain())
    await asyncio.sleep(TOKEN_SECONDS / 2)
    second = await core.renew(first.session_token)
    await asyncio.sleep(LAPSED_SECONDS / 2)
    with pytest.raises(errors.SessionExpired):
        await core.renew(first.session_token)
    assert (await core.renew(second.session_token)).session_token


async def test_a_token_of_somewhere_else_is_worth_nothing(core: Core) -> None:
    with pytest.raises(errors.InvalidSession):
        await core.renew(b"of somewhere else")


async def test_a_changed_password_ends_the_sessions_before_it(core: Core) -> None:
    before = await core.authenticate(plain())
    await core.set_password("another password")
    with pytest.raises(errors.SessionRevoked):
        await core.renew(before.session_token)
    with pytest.raises(errors.AuthenticationFailed):
        await core.authenticate(plain())
    after = await core.authenticate(plain("another password"))
    assert after.credential_version > before.credential_version
    assert (await core.renew(after.session_token)).account_id == before.account_id
