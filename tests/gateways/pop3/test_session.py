"""Failures and limits of sessions: lost core, lost leases, timeouts, required TLS, lost clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from restante import errors
from restante.v1 import methods
from restante.v1.message_pb2 import DeleteMode
from restante.v1.sync_pb2 import SessionsEnded
from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.bounds import ConnectionBounds
from restante_gateways.pop3.errors import OTHERWISE, REPLIES, response_to
from restante_gateways.pop3.settings import SessionSettings
from restante_server.api.services import mailboxes
from tests.gateways.pop3.conftest import Running
from tests.gateways.pop3.messages import MESSAGES
from tests.harness.faulty_link import until


class Client:
    """Lines over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> str:
        async with asyncio.timeout(10):
            return (await self.reader.readline()).decode()

    async def ask(self, command: str) -> str:
        self.writer.write(f"{command}\r\n".encode())
        return await self.line()

    async def rest(self) -> bytes:
        """A multi-line answer, with its dot."""
        async with asyncio.timeout(10):
            lines = [await self.reader.readline()]
            while lines[-1] not in (b".\r\n", b""):
                lines.append(await self.reader.readline())
        return b"".join(lines)

    async def log_in(self, name: str = "alice") -> str:
        assert (await self.ask(f"USER {name}@example.test")).startswith("+OK")
        return await self.ask(f"PASS {name}-demo")


@asynccontextmanager
async def dial(running: Running, *, tls: bool = False) -> AsyncIterator[Client]:
    port, context = (running.tls_port, running.tls) if tls else (running.port, None)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost" if tls else None, limit=1 << 20
    )
    client = Client(reader, writer)
    assert (await client.line()).startswith("+OK")
    try:
        yield client
    finally:
        writer.close()


# -- an unreachable core


async def test_a_core_that_is_away_is_a_temporary_error_at_login(running: Running) -> None:
    async with dial(running) as client:
        running.link.refuse(errors.StoreBusy())
        assert (await client.log_in()).startswith("-ERR [SYS/TEMP]")
        running.link.heal()
        assert await client.log_in() == "+OK 0 messages (0 octets)\r\n"


async def test_a_core_that_is_away_costs_a_retrieval_not_the_session(running: Running) -> None:
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        running.link.refuse(errors.StoreBusy())
        assert (await client.ask("RETR 1")).startswith("-ERR [SYS/TEMP]")
        assert (await client.ask("TOP 1 0")).startswith("-ERR [SYS/TEMP]")
        assert await client.ask("NOOP") == "+OK no operation\r\n"
        running.link.heal()
        assert (await client.ask("RETR 1")).startswith("+OK")
        assert await client.rest() == MESSAGES["plain"] + b".\r\n"


async def test_half_a_message_never_looks_whole(running: Running) -> None:
    running.link.break_streams_after(1, then=errors.Draining())
    await running.fill(b"A: b\r\n\r\n" + b"x" * 500_000 + b"\r\n")
    async with dial(running) as client:
        await client.log_in()
        assert (await client.ask("RETR 1")).startswith("+OK")
        try:
            rest = await client.reader.read(-1)
        except ConnectionResetError:
            return
        assert not rest.endswith(b"\r\n.\r\n")


async def test_quit_that_cannot_delete_says_so(running: Running) -> None:  # RFC 1939 6
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        await client.ask("DELE 1")
        running.link.refuse(errors.StoreBusy())
        assert (await client.ask("QUIT")).startswith("-ERR [SYS/TEMP]")
        assert await client.line() == ""
    assert len(await running.contents()) == 1


async def test_quit_tries_again_while_the_core_comes_back(running: Running) -> None:
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        await client.ask("DELE 1")
        running.link.refuse(errors.StoreBusy())
        asyncio.get_running_loop().call_later(0.05, running.link.heal)
        assert await client.ask("QUIT") == "+OK bye, 1 messages deleted\r\n"
    assert not await running.contents()


# -- lease and session


async def test_quit_after_the_lease_was_lost_deletes_nothing_and_says_so(running: Running) -> None:  # RFC 1939 6
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        await client.ask("DELE 1")
        await running.core.take_maildrop("alice")
        assert (
            await client.ask("QUIT")
            == "-ERR [IN-USE] another session has taken over the maildrop; no message was deleted\r\n"
        )
    assert len(await running.contents()) == 1


@pytest.mark.parametrize("token_seconds", [2.0])
async def test_the_lease_and_the_token_are_renewed_while_the_session_lives(running: Running) -> None:
    running.set_maildrop(lease_renewed_seconds=0.05, lease_retried_seconds=0.05)
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        await until(lambda: running.link.calls.count("RenewSession") >= 2)
        assert running.link.calls.count("RenewMaildrop") > running.link.calls.count("RenewSession")
        running.link.refuse(errors.StoreBusy())
        await asyncio.sleep(0.2)  # a core that is unreachable for a moment ends no session
        running.link.heal()
        assert (await client.ask("RETR 1")).startswith("+OK")
        await client.rest()
        assert await client.ask("QUIT") == "+OK bye\r\n"
    renewals = len(running.link.calls)
    await asyncio.sleep(0.15)
    assert len(running.link.calls) == renewals


async def test_a_lease_that_was_lost_ends_the_session(running: Running) -> None:
    running.set_maildrop(lease_renewed_seconds=0.05)
    async with dial(running) as client:
        await client.log_in()
        await running.core.take_maildrop("alice")
        assert (await client.line()).startswith("-ERR [IN-USE]")
        assert await client.line() == ""
    await until(lambda: not list(running.gateway.sessions))


@pytest.mark.parametrize("token_seconds", [60.0])
async def test_a_token_that_cannot_be_renewed_now_does_not_postpone_the_renewal_of_the_lease(
    running: Running,
) -> None:
    running.set_maildrop(lease_renewed_seconds=0.1)
    running.link.refuse(errors.StoreBusy(), methods.RENEW_SESSION.name)
    async with dial(running) as client:
        await client.log_in()
        for session in running.gateway.sessions:
            session.check_within(0.0)
        await asyncio.sleep(0.5)
        assert running.link.calls.count(methods.RENEW_MAILDROP.name) >= 3
        assert running.link.calls.count(methods.RENEW_SESSION.name) >= 1
        assert await client.ask("NOOP") == "+OK no operation\r\n"


async def test_a_changed_password_ends_the_session_at_once(running: Running) -> None:  # docs/design.md "Session tokens"
    async with dial(running) as client, dial(running) as other:
        await client.log_in()
        await other.log_in("bob")
        first = (await running.core.user("alice")).session.info
        running.gateway.sessions.ended(
            SessionsEnded(account_id=first.account_id, credential_version=first.credential_version)
        )
        assert await client.ask("NOOP") == "+OK no operation\r\n"  # this one is of that version itself
        await running.core.end_sessions("alice")
        assert await client.line() == "-ERR [AUTH] the login session was ended, log in again\r\n"
        assert await client.line() == ""
        assert await other.ask("NOOP") == "+OK no operation\r\n"


async def test_a_single_session_can_be_ended(running: Running) -> None:
    async with dial(running) as client:
        await client.log_in()
        (session,) = running.gateway.sessions
        notice = SessionsEnded(account_id=session.account_id, credential_version=9, session_token=b"another")
        running.gateway.sessions.ended(notice)
        assert await client.ask("NOOP") == "+OK no operation\r\n"
        notice.session_token = session.token
        running.gateway.sessions.ended(notice)
        assert (await client.line()).startswith("-ERR [AUTH]")


async def test_a_revoked_session_cannot_retrieve(running: Running) -> None:
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        running.link.watch.lossy = True
        await running.core.end_sessions("alice")
        assert (await client.ask("RETR 1")).startswith("-ERR [AUTH]")
        assert await client.line() == ""


async def test_a_message_that_left_the_inbox_stays_for_the_session(running: Running) -> None:  # RFC 1939 3, 5, 6
    await running.fill(*MESSAGES.values())
    async with dial(running) as client:
        await client.log_in()
        first, second, _ = await running.core.inbox("alice")
        user = await running.core.user("alice")
        await user.messages.move(first.message_id, "Archive")
        for command in ("RETR 1", "TOP 1 1000"):
            assert (await client.ask(command)).startswith("+OK")
            assert await client.rest() == MESSAGES["plain"] + b".\r\n"
        await user.messages.delete(second.message_id, DeleteMode.DELETE_MODE_HARD)
        await running.core.end_reading_leases()
        for command in ("RETR 2", "TOP 2 0"):
            assert await client.ask(command) == (
                "-ERR another session removed this message over an hour ago, so it can no longer be read\r\n"
            )
        validity = (await running.core.folder("alice")).uid_validity
        assert await client.ask("UIDL 2") == f"+OK 2 {validity}.2\r\n"
        assert await client.ask("DELE 2") == "+OK marked\r\n"
        assert await client.ask("DELE 3") == "+OK marked\r\n"
        assert await client.ask("QUIT") == "+OK bye, 1 messages deleted, another session had removed 1\r\n"
    assert not await running.contents()


async def test_a_quit_whose_first_answer_is_lost_promises_no_number(running: Running) -> None:
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        await client.ask("DELE 1")
        await running.leave(1)
        running.link.refuse(errors.StoreBusy())
        asyncio.get_running_loop().call_later(0.05, running.link.heal)
        assert await client.ask("QUIT") == "+OK bye, none of the marked messages is left in the maildrop\r\n"


async def test_a_revoked_session_cannot_retrieve_what_left_the_inbox(running: Running) -> None:
    await running.fill(MESSAGES["plain"])
    await running.fill(MESSAGES["dots"])
    async with dial(running) as client:
        await client.log_in()
        await running.leave(1)
        assert (await client.ask("RETR 1")).startswith("+OK")
        await client.rest()
        running.link.watch.lossy = True
        await running.core.end_sessions("alice")
        assert (await client.ask("RETR 1")).startswith("-ERR [AUTH]")
        assert await client.line() == ""


async def test_mail_that_arrives_inside_a_session_is_not_shown(running: Running) -> None:  # RFC 1939 4, RFC 2449 8.1.2
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        await running.fill(MESSAGES["dots"])
        assert await client.ask("STAT") == f"+OK 1 {len(MESSAGES['plain'])}\r\n"
        await client.ask("DELE 1")
        await client.ask("QUIT")
    assert await running.contents() == [MESSAGES["dots"]]


async def test_a_large_maildrop_comes_in_pages(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailboxes, "MAILDROP_AT_ONCE", 2)
    await running.fill(*[MESSAGES["plain"]] * 5)
    async with dial(running) as client:
        await client.log_in()
        assert running.link.calls_since().count("AcquireMaildrop") == 3
        assert await client.ask("STAT") == f"+OK 5 {5 * len(MESSAGES['plain'])}\r\n"
        assert (await client.ask("DELE 5")).startswith("+OK")
        assert (await client.ask("QUIT")).startswith("+OK")
    assert [message.uid for message in await running.core.inbox("alice")] == [1, 2, 3, 4]


async def test_a_dropped_connection_deletes_nothing_and_frees_the_maildrop(running: Running) -> None:  # RFC 1939 6
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        await client.ask("RETR 1")
        await client.rest()
        await client.ask("DELE 1")
        client.writer.transport.abort()
    await running.released()
    assert len(await running.contents()) == 1
    assert not any(message.seen for message in await running.core.inbox("alice"))


async def test_what_was_retrieved_and_kept_is_marked_as_read_at_quit(running: Running) -> None:
    await running.fill(*MESSAGES.values())
    async with dial(running) as client:
        await client.log_in()
        for command in ("RETR 1", "TOP 3 0", "RETR 2"):  # TOP marks nothing as read
            assert (await client.ask(command)).startswith("+OK")
            await client.rest()
        await client.ask("DELE 2")
        await client.ask("QUIT")
    assert [(message.uid, message.seen) for message in await running.core.inbox("alice")] == [(1, True), (3, False)]


# -- time


async def test_autologout_says_nothing_and_deletes_nothing(running: Running) -> None:  # RFC 1939 3
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        await client.ask("DELE 1")
        (listener, *_) = running.runtime.listeners
        (connection,) = listener._connections
        connection.idle_timeout_seconds = 0.1
        await client.ask("NOOP")
        assert await client.line() == ""
    await running.released()
    assert len(await running.contents()) == 1


def test_the_configured_idle_time_is_at_least_ten_minutes() -> None:  # RFC 1939 3
    from restante_gateways.pop3.gateway import Pop3Settings
    from restante_process.config_file import load

    assert Pop3Settings({}).bounds.idle_timeout_seconds >= 600
    short = load(None, {}, {"pop3.idle_minutes": 1.0})
    assert Pop3Settings.from_config(short).bounds.idle_timeout_seconds >= 600


async def test_login_has_a_deadline_however_busy_the_client(running: Running) -> None:
    running.gateway.settings = SessionSettings(login_seconds=0.3)
    async with dial(running) as client:
        async with asyncio.timeout(5):
            while await client.ask("CAPA") != "":
                await client.rest()


async def test_a_gateway_going_down_says_so_and_gives_the_maildrop_back(running: Running) -> None:
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        await client.log_in()
        await client.ask("DELE 1")
        draining = asyncio.ensure_future(running.runtime.drain())
        assert await client.line() == "-ERR [SYS/TEMP] the server is shutting down, connect again later\r\n"
        assert await client.line() == ""
        client.writer.close()
        await draining
    assert not await running.core.maildrop_is_leased("alice")
    assert len(await running.contents()) == 1


# -- TLS and the login policy


@pytest.mark.parametrize("policy", [AuthenticationPolicy.REQUIRED])
async def test_without_tls_there_is_no_login_where_it_is_required(running: Running) -> None:
    async with dial(running) as client:
        assert (await client.ask("CAPA")).startswith("+OK")
        capabilities = (await client.rest()).decode().splitlines()
        assert "STLS" in capabilities
        assert not any(line.split()[0] in ("USER", "SASL") for line in capabilities)
        plain = "AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABhbGljZS1kZW1v"
        for command in ("USER alice@example.test", "PASS alice-demo", plain, "AUTH PLAIN"):
            assert await client.ask(command) == "-ERR authentication needs TLS, use STLS first\r\n"
        assert (await client.ask("STLS")).startswith("+OK")
        await client.writer.start_tls(running.tls, server_hostname="localhost")
        assert await client.log_in() == "+OK 0 messages (0 octets)\r\n"
    async with dial(running, tls=True) as client:
        assert await client.log_in("bob") == "+OK 0 messages (0 octets)\r\n"
    assert running.link.calls.count("Authenticate") == 2
    assert all(context.tls for context in running.contexts())
    assert [context.listener for context in running.contexts()] == ["pop3", "pop3s"]


async def test_the_core_learns_the_clients_address_and_transport_security(running: Running) -> None:
    async with dial(running) as client:
        await client.log_in()
    (context,) = running.contexts()
    assert (context.client_address, context.listener, context.tls, context.loopback) == (
        "127.0.0.1",
        "pop3",
        False,
        True,
    )


async def test_neither_secrets_nor_unknown_names_are_logged(running: Running) -> None:  # docs/design.md "Logs"
    async with dial(running) as client:
        await client.ask("USER mallory")
        await client.ask("PASS guessed-secret")
        await client.ask("AUTH PLAIN AG1hbGxvcnkAZ3Vlc3NlZA==")
        await client.ask("mallory typed a name first")
        await client.log_in()
        await client.ask("STAT")
        await client.ask("QUIT")
    await until(lambda: b"session ended" in running.log.getvalue())  # lines are gathered for 0.1 s
    running.runtime.commands.flush()
    logged = running.log.getvalue()
    for secret in (b"mallory", b"guessed", b"demo", b"AG1hb"):
        assert secret not in logged
    lines = [json.loads(line) for line in logged.splitlines()]
    commands = [(line["command"], line["outcome"]) for line in lines if line["event"] == "command"]
    assert commands == [
        ("USER", "ok"), ("PASS", "auth"), ("AUTH", "auth"), ("?", "err"), ("USER", "ok"), ("PASS", "ok"),
        ("STAT", "ok"), ("QUIT", "ok"),
    ]  # fmt: skip
    accounts = [line.get("account") for line in lines]
    assert accounts == [None] * 5 + ["alice@example.test"] * (len(lines) - 5)


# -- the wire


async def test_answers_reach_a_client_that_has_closed_its_direction(running: Running) -> None:
    await running.fill(MESSAGES["plain"])
    async with dial(running) as client:
        client.writer.write(b"USER alice@example.test\r\nPASS alice-demo\r\nRETR 1\r\nQUIT\r\n")
        client.writer.write_eof()
        async with asyncio.timeout(5):
            answer = await client.reader.read()
    assert answer.endswith(MESSAGES["plain"] + b".\r\n+OK bye\r\n")


async def test_a_large_message_streams_to_a_slow_client(running: Running) -> None:
    message = b"A: b\r\n\r\n" + b"".join(b".%07d\r\n" % n for n in range(500_000))
    await running.fill(message)
    async with dial(running) as client:
        await client.log_in()
        assert await client.ask("RETR 1") == f"+OK {len(message)} octets\r\n"
        received = bytearray()
        async with asyncio.timeout(20):
            while not received.endswith(b"\r\n.\r\n"):
                received += await client.reader.read(200_000)
                await asyncio.sleep(0.001)
        assert received == message.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        assert await client.ask("NOOP") == "+OK no operation\r\n"


async def test_a_client_of_another_protocol_is_let_go(running: Running) -> None:
    async with dial(running) as client:
        client.writer.write(b"GET / HTTP/1.1\r\n" * 40)
        async with asyncio.timeout(5):
            answer = await client.reader.read()
        assert answer == b"-ERR unknown command\r\n" * SessionSettings().max_errors


async def test_an_endless_line_costs_no_memory_and_one_error(running: Running) -> None:
    async with dial(running) as client:
        for _ in range(50):
            client.writer.write(b"A" * 20_000)
        client.writer.write(b"\r\n")
        assert await client.line() == "-ERR line too long\r\n"
        assert await client.log_in() == "+OK 0 messages (0 octets)\r\n"


async def test_a_response_of_12288_octets_is_carried(running: Running) -> None:  # RFC 4954 4
    async with dial(running) as client:
        assert await client.ask("AUTH PLAIN") == "+ \r\n"
        assert (await client.ask("A" * 12_288)).startswith("-ERR [AUTH]")
        assert await client.ask("AUTH PLAIN") == "+ \r\n"
        assert await client.ask("A" * 12_292) == "-ERR malformed response\r\n"


@pytest.mark.parametrize("bounds", [ConnectionBounds(stalled_timeout_seconds=0.3, linger_seconds=0.1)])
async def test_a_client_that_stops_reading_loses_the_connection_and_the_lease(running: Running) -> None:
    await running.fill(b"A: b\r\n\r\n" + b"x" * 12_000_000 + b"\r\n")
    async with dial(running) as client:
        await client.log_in()
        client.writer.write(b"RETR 1\r\n")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await running.released()
    assert running.link.open_streams == 0


def test_every_reason_has_its_row() -> None:
    assert REPLIES.keys() == set(errors.BY_REASON.values())
    assert not any(response.ok for response in REPLIES.values())


def test_a_reason_that_names_the_field_keeps_its_words() -> None:
    named = errors.InvalidArgument(field="response", problem="more than 12288 octets")
    assert bytes(response_to(named)) == b"-ERR [SYS/PERM] response: more than 12288 octets\r\n"


def test_a_reason_of_a_newer_core_is_temporary() -> None:
    assert response_to(errors.UnknownReason("NEW", grpc.StatusCode.ABORTED)) is OTHERWISE
