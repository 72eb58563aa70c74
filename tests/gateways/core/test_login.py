"""The SASL loop between client and core."""

from __future__ import annotations

import base64

import pytest

from restante import errors
from restante.v1.session_pb2 import AuthenticateResponse, Session
from restante_gateways.core import sasl
from restante_gateways.core.login import by_exchange, by_password


class Core:
    """A core with PLAIN and an exchange of two steps with sealed state."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, bytes, bytes]] = []

    async def verify(self, response: sasl.Response, exchange: bytes) -> AuthenticateResponse:
        octets = response.octets.reveal()
        self.steps.append((response.mechanism, octets, exchange))
        if response.mechanism == "PLAIN":
            if octets != b"\0alice\0secret":
                raise errors.AuthenticationFailed
        elif not exchange:
            return AuthenticateResponse(challenge=b"how are you?", exchange=b"sealed")
        elif (octets, exchange) != (b"well", b"sealed"):
            raise errors.AuthenticationFailed
        return AuthenticateResponse(session=Session(address="alice@example.test"))


class Client:
    """A client that answers challenges in order."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.challenges = list(answers), list[bytes]()

    async def ask(self, challenge: bytes) -> bytes:
        self.challenges.append(base64.b64decode(challenge))
        answer = self.answers.pop(0)
        return answer if answer == b"*" else base64.b64encode(answer)


async def test_an_initial_response_needs_no_challenge() -> None:
    core, client = Core(), Client()
    session = await by_exchange(core.verify, "plain", base64.b64encode(b"\0alice\0secret"), client.ask)
    assert session.address == "alice@example.test"
    assert core.steps == [("PLAIN", b"\0alice\0secret", b"")]
    assert client.challenges == []


async def test_login_asks_for_name_and_password_and_the_core_sees_plain() -> None:
    core, client = Core(), Client(b"alice", b"secret")
    await by_exchange(core.verify, "LOGIN", None, client.ask)
    assert client.challenges == [b"Username:", b"Password:"]
    assert core.steps == [("PLAIN", b"\0alice\0secret", b"")]


async def test_the_state_of_the_core_comes_back_with_the_next_step() -> None:
    core, client = Core(), Client(b"hello", b"well")
    await by_exchange(core.verify, "X-TWO-STEPS", None, client.ask)
    assert client.challenges == [b"", b"how are you?"]
    assert core.steps == [("X-TWO-STEPS", b"hello", b""), ("X-TWO-STEPS", b"well", b"sealed")]


async def test_a_client_may_give_up_and_the_core_hears_nothing_more() -> None:
    core, client = Core(), Client(b"hello", b"*")
    with pytest.raises(sasl.Cancelled):
        await by_exchange(core.verify, "X-TWO-STEPS", None, client.ask)
    assert len(core.steps) == 1


async def test_what_is_not_base64_is_not_put_to_the_core() -> None:
    core = Core()
    with pytest.raises(sasl.MalformedResponse):
        await by_exchange(core.verify, "PLAIN", b"!", Client().ask)
    assert core.steps == []


async def test_the_refusal_of_the_core_is_raised() -> None:
    core = Core()
    with pytest.raises(errors.AuthenticationFailed):
        await by_exchange(core.verify, "PLAIN", None, Client(b"\0alice\0wrong").ask)
    with pytest.raises(errors.AuthenticationFailed):
        await by_password(core.verify, sasl.plain(b"alice", b"wrong"))


async def test_a_command_with_name_and_password_is_one_step() -> None:
    core = Core()
    assert (await by_password(core.verify, sasl.plain(b"alice", b"secret"))).address == "alice@example.test"
    assert core.steps == [("PLAIN", b"\0alice\0secret", b"")]
