"""The relay with an outbound queue in memory and scripted servers."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from restante.v1.submission_pb2 import DsnReturn, EnvelopeOptions, EnvelopeRecipient, NotifyCondition
from restante_cli import authority
from restante_gateways.relay.gateway import Relay, RelaySettings
from restante_gateways.relay.metrics import RelayMetrics
from restante_process.config_file import load
from tests.gateways.relay.conftest import running
from tests.harness.dns_server import dns_server
from tests.harness.faulty_link import until
from tests.harness.outbound_queue import CONTENT, OutboundQueue
from tests.harness.smtp_peer import DROP, HANG, smtp_peer

BOB, CAROL = "bob@example.net", "carol@example.net"


async def test_a_message_is_handed_over_octet_for_octet() -> None:
    core = OutboundQueue()
    content = CONTENT + b"..two\r\n" + "ü".encode() + b"\xff\r\n" + (b"x" * 70 + b"\r\n") * 5_000
    options = EnvelopeOptions(dsn_return=DsnReturn.DSN_RETURN_FULL, envelope_id="QQ+2B1")
    recipient = EnvelopeRecipient(
        forward_path=BOB,
        notify=[NotifyCondition.NOTIFY_CONDITION_SUCCESS, NotifyCondition.NOTIFY_CONDITION_DELAY],
        original_recipient="rfc822;b+2Bb@example.org",
    )
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        lease = core.put(recipient, content=content, options=options)
        assert await core.outcomes(lease) == [("relayed", "2.0.0")]
        (got,) = peer.messages
    assert got.content == content
    assert got.mail == f"<alice@example.test> SIZE={len(content)} BODY=8BITMIME RET=FULL ENVID=QQ+2B1"
    assert got.recipients == [f"<{BOB}> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2Bb@example.org"]  # RFC 3461 5.2.1.1
    assert core.reports[lease][0].dsn_passed_on and core.reports[lease][0].remote_host == "127.0.0.1"


async def test_dsn_is_not_passed_on_where_it_is_not_known() -> None:  # RFC 3461 5.2.2
    core = OutboundQueue()
    async with smtp_peer(extensions=("SIZE",)) as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        lease = core.put(BOB)
        await core.outcomes(lease)
    assert not core.reports[lease][0].dsn_passed_on


async def test_each_recipient_has_its_own_outcome() -> None:  # RFC 5321 4.2.1
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.replies |= {
            "RCPT TO:<later@": "450 4.2.0 greylisted",
            "RCPT TO:<never@": "550-5.1.1 no such\n550 5.1.1 user",
        }
        lease = core.put("later@example.net", BOB, "never@example.net")
        assert await core.outcomes(lease) == [("deferred", "4.2.0"), ("relayed", "2.0.0"), ("failed", "5.1.1")]
        assert peer.messages[0].recipients == [f"<{BOB}>"]
    assert core.reports[lease][2].diagnostic == "550 5.1.1 no such user"


@pytest.mark.parametrize(
    ("replies", "outcome"),
    [
        ({"greeting": "554 5.7.1 go away"}, ("deferred", "4.7.1")),  # our administrator chose this server
        ({"greeting": "421 4.3.2 busy"}, ("deferred", "4.3.2")),
        ({"greeting": HANG}, ("deferred", "4.4.1")),
        ({"greeting": DROP}, ("deferred", "4.4.1")),
        ({"greeting": b"SSH-2.0-x\r\n"}, ("deferred", "4.4.1")),
        ({"greeting": b"220 " + b"x" * 100_000}, ("deferred", "4.4.1")),
        ({"EHLO": b"250-x\r\n" * 10_000}, ("deferred", "4.4.2")),
        ({"EHLO": "502 5.5.1 what?"}, ("relayed", "2.0.0")),
        ({"EHLO": "502 what?", "HELO": "550 5.7.1 no"}, ("deferred", "4.7.1")),
        ({"MAIL": "451 4.3.0 later"}, ("deferred", "4.3.0")),
        ({"MAIL": "550 5.7.1 not you"}, ("failed", "5.7.1")),
        ({"MAIL": "421 4.7.0 too fast DROP"}, ("deferred", "4.7.0")),
        ({"RCPT": "421 4.7.0 too fast DROP"}, ("deferred", "4.7.0")),
        ({"RCPT": DROP}, ("deferred", "4.4.2")),
        ({"RCPT": HANG}, ("deferred", "4.4.2")),
        ({"RCPT": b"\xff\xfe\r\n"}, ("deferred", "4.4.2")),
        ({"RCPT": b"550 5.1.1 caf\xe9\r\n"}, ("failed", "5.1.1")),
        ({"RCPT": b"999 x\r\n"}, ("deferred", "4.4.2")),
        ({"RCPT": "552 5.2.2 mailbox full"}, ("failed", "5.2.2")),
        ({"DATA": "451 4.3.0 later"}, ("deferred", "4.3.0")),
        ({"DATA": "554 5.7.1 no valid recipients"}, ("failed", "5.7.1")),
        ({"DATA": "250 done?"}, ("deferred", "4.5.0")),
        ({"DATA": HANG}, ("deferred", "4.4.2")),
        ({"content": "550 5.7.1 spam"}, ("failed", "5.7.1")),
        ({"content": "452 4.3.1 disk full"}, ("deferred", "4.3.1")),
        ({"content": "421 4.3.2 restarting DROP"}, ("deferred", "4.3.2")),
        ({"content": DROP}, ("deferred", "4.4.2")),  # never taken for relayed
        ({"content": HANG}, ("deferred", "4.4.2")),
        ({"content": b"25"}, ("deferred", "4.4.2")),
        ({"content": "354 more?"}, ("deferred", "4.0.0")),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
async def test_whatever_goes_wrong_the_outcome_is_right(
    replies: dict[str, str | list[str | bytes] | bytes], outcome: tuple[str, str]
) -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.replies.update(replies)
        assert await core.outcomes(core.put(BOB)) == [outcome]
        peer.replies.clear()
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]  # the relay continues


async def test_a_refusal_while_octets_are_sent_is_heard() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.reading.clear()  # the sent octets fill the buffers, and the relay can read only the refusal
        peer.replies["DATA"] = "354 go"
        peer.said_early = "552 5.3.4 too big"
        lease = core.put(BOB, content=b"x" * 20_000_000 + b"\r\n")
        assert await core.outcomes(lease) == [("failed", "5.3.4")]
        peer.said_early = "250 2.0.0 taken already"
        lease = core.put(BOB, content=b"x" * 20_000_000 + b"\r\n")
        assert await core.outcomes(lease) == [("deferred", "4.4.2")]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"354 go\r\n552 5.3.4 too big\r\n",),
        (b"354-go\r\n354 o", b"n\r\n552-5.3.4 too\r\n552", b" 5.3.4 big\r\n"),
    ],
)
async def test_a_refusal_in_one_packet_with_354_is_heard(pieces: tuple[bytes, ...]) -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.reading.clear()  # the relay can read only the refusal
        peer.replies["DATA"], peer.said_early_pieces = pieces[0], pieces[1:]
        lease = core.put(BOB, content=b"x" * 20_000_000 + b"\r\n")
        assert await core.outcomes(lease) == [("failed", "5.3.4")]


async def test_nothing_of_a_connection_that_does_not_read_is_relayed() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.reading.clear()
        assert await core.outcomes(core.put(BOB, content=b"x" * 20_000_000 + b"\r\n")) == [("deferred", "4.4.2")]
        peer.reading.set()
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]


async def test_a_connection_is_used_again_and_one_that_was_closed_meanwhile_costs_nothing() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        for _ in range(3):
            assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]
        assert peer.connections == 1
        peer.replies["MAIL"] = ["421 4.4.2 idle for too long DROP", "250 ok"]
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]
        assert peer.connections == 2


async def test_a_server_full_of_recipients_gets_the_others_in_another_transaction() -> None:  # RFC 5321 4.5.3.1.10
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.replies["RCPT"] = ["250 ok", "250 ok", "452 4.5.3 too many", "552 too many", "250 ok"]
        lease = core.put(*(f"person{number}@example.net" for number in range(4)))
        assert await core.outcomes(lease) == [("relayed", "2.0.0")] * 4
        assert [len(message.recipients) for message in peer.messages] == [2, 2]
        assert peer.connections == 1


async def test_servers_that_are_down_are_passed_over() -> None:  # RFC 5321 5.1
    core = OutboundQueue()
    async with dns_server() as dns, smtp_peer("127.0.0.3") as good, smtp_peer("127.0.0.2", good.port) as bad:
        dns.load(
            "example.net MX 10 down.example.net.\nexample.net MX 20 bad.example.net.\n"
            "example.net MX 30 good.example.net.\n"
            "down.example.net A 127.0.0.4\nbad.example.net A 127.0.0.2\ngood.example.net A 127.0.0.3"
        )
        bad.replies["greeting"] = "554 5.3.2 no service"
        async with running(core, {}, nameservers=(dns.address,), allow_private=("127.0.0.0/8",), port=good.port):
            assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]
            good.replies["greeting"] = "554 5.3.2 no service"
            await asyncio.sleep(0.1)
            good.replies["MAIL"] = "421 4.3.2 closing DROP"
            # One server was only down, so a permanent answer of the others is not final.
            assert await core.outcomes(core.put(BOB)) == [("deferred", "4.4.1")]
        assert good.messages[0].recipients == [f"<{BOB}>"]


@pytest.mark.parametrize(
    ("destination", "outcome"),
    [
        ("nowhere.example", ("failed", "5.1.2")),  # RFC 5321 5.1
        ("quiet.example", ("failed", "5.1.10")),
        ("loop.example", ("failed", "5.4.6")),  # RFC 5321 5.1
        ("inner.example", ("failed", "5.4.4")),
        ("ghost.example", ("failed", "5.4.4")),
        ("broken.example", ("deferred", "4.4.3")),
        ("[127.0.0.1]", ("failed", "5.4.4")),
        ("[nonsense]", ("failed", "5.1.2")),
    ],
)
async def test_destinations_that_cannot_be_reached(destination: str, outcome: tuple[str, str]) -> None:
    core = OutboundQueue()
    async with dns_server(
        "quiet.example MX 0 .\nloop.example MX 5 mx.example.test.\ninner.example A 10.0.0.1\n"
        "ghost.example MX 1 x.invalid."
    ) as dns:
        dns.servfail.add("broken.example")
        async with running(core, {}, nameservers=(dns.address,)):
            assert await core.outcomes(core.put("bob@x.example", destination=destination)) == [outcome]
    assert core.reads == 0


def tls(directory: Path) -> ssl.SSLContext:
    authority.make(directory, ("mx.example.net",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "tls/cert.pem", directory / "tls/key.pem")
    return context


async def test_tls_is_used_where_it_is_offered(tmp_path: Path) -> None:
    core, registry = OutboundQueue(), CollectorRegistry()
    async with smtp_peer(tls=tls(tmp_path)) as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, registry=registry):
        assert await core.outcomes(core.put(BOB, content=b"x" * 1_000_000 + b"\r\n")) == [("relayed", "2.0.0")]
        assert peer.messages[0].secured and peer.connections == 1
    assert registry.get_sample_value("restante_relay_connections_opened_total", {"tls": "yes"}) == 1
    assert registry.get_sample_value("restante_relay_recipients_total", {"outcome": "relayed"}) == 1
    assert registry.get_sample_value("restante_relay_leases") == 0
    assert registry.get_sample_value("restante_relay_connections") == 0


@pytest.mark.parametrize("answer", ["454 4.7.0 not now", "220 go DROP", DROP, HANG])
async def test_tls_that_does_not_work_is_done_without(tmp_path: Path, answer: str | bytes) -> None:  # RFC 7435
    core = OutboundQueue()
    async with smtp_peer(tls=tls(tmp_path)) as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.replies["STARTTLS"] = answer
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]
        assert not peer.messages[0].secured and peer.connections == 2


async def test_what_is_slipped_in_before_tls_is_forgotten(tmp_path: Path) -> None:  # RFC 3207 4.2
    core = OutboundQueue()
    async with smtp_peer(tls=tls(tmp_path)) as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.replies["STARTTLS"] = b"220 go\r\n550 5.7.1 slipped in\r\n"
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]
        assert peer.messages[0].secured


async def test_connections_are_bounded_for_each_host_and_slots_come_back() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, connections_per_host=2):
        many = [core.put(BOB) for _ in range(20)]
        peer.replies["RCPT"] = [DROP, "250 ok", DROP, "550 5.1.1 no", "250 ok"]
        ends = [await core.outcomes(lease) for lease in many]
        assert len(ends) == 20
        assert 1 <= peer.most_open <= 2 + 2  # two at work, and at most two just leaving
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]


async def test_idle_connections_are_bounded_and_end() -> None:
    core = OutboundQueue()
    async with smtp_peer() as one, smtp_peer("127.0.0.2") as other:
        routes = {"one.example": f"127.0.0.1:{one.port}", "other.example": f"127.0.0.2:{other.port}"}
        async with running(core, routes, connections=1, keep_seconds=0.2):
            await core.outcomes(core.put(BOB, destination="one.example"))
            await core.outcomes(core.put(BOB, destination="other.example"))
            assert one.open_now == 0 and other.open_now == 1
            await asyncio.sleep(0.5)
            assert other.open_now == 0 and other.commands[-1] == "QUIT"


async def test_an_idle_connection_makes_room_before_another_is_opened() -> None:
    core = OutboundQueue()
    async with smtp_peer() as one, smtp_peer("127.0.0.2") as other:
        routes = {"one.example": f"127.0.0.1:{one.port}", "other.example": f"127.0.0.2:{other.port}"}
        async with running(core, routes, connections=1, keep_seconds=30.0):
            await core.outcomes(core.put(BOB, destination="one.example"))
            assert one.open_now == 1
            other.replies["greeting"] = HANG
            core.put(BOB, destination="other.example")
            await until(lambda: other.open_now == 1)
            assert one.open_now == 0


async def test_a_host_that_says_nothing_is_left_alone_for_a_while() -> None:
    quick: dict[str, Any] = {"connections_per_host": 1, "slow_seconds": 0.3, "alone_seconds": 0.6}
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, **quick):
        peer.replies["greeting"] = HANG
        many = [core.put(BOB) for _ in range(10)]
        ends = [await core.outcomes(lease, seconds=2.0) for lease in many]
        assert ends == [[("deferred", "4.4.1")]] * 10
        assert peer.connections == 1  # the others did not wait for it again
        peer.replies.clear()
        await asyncio.sleep(0.7)
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]


async def test_a_slow_host_holds_up_nobody_else() -> None:
    core = OutboundQueue()
    async with smtp_peer() as slow, smtp_peer("127.0.0.2") as quick:
        slow.replies["greeting"] = HANG
        routes = {"slow.example": f"127.0.0.1:{slow.port}", "example.net": f"127.0.0.2:{quick.port}"}
        async with running(core, routes, connections=3, connections_per_host=2):
            for _ in range(12):
                core.put("bob@slow.example", destination="slow.example")
            await asyncio.sleep(0.1)
            assert await core.outcomes(core.put(BOB), seconds=0.4) == [("relayed", "2.0.0")]


async def test_large_messages_wait_for_room_and_all_go() -> None:
    core = OutboundQueue()
    content = b"x" * 1_000_000 + b"\r\n"
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, memory_octets=1_500_000):
        many = [core.put(BOB, content=content) for _ in range(6)]
        for lease in many:
            assert await core.outcomes(lease) == [("relayed", "2.0.0")]
        assert all(message.content == content for message in peer.messages)


async def test_a_lost_lease_is_neither_sent_nor_reported() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        lease = core.put(BOB)
        core.lost.add(lease)
        other = core.put(CAROL)
        await core.outcomes(other)
        await asyncio.sleep(0.1)
        assert lease not in core.reports
        assert [message.recipients for message in peer.messages] == [[f"<{CAROL}>"]]


async def test_a_lease_that_is_lost_on_the_way_cuts_the_attempt() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, renew_seconds=0.05):
        peer.replies["RCPT"] = HANG
        lease = core.put(BOB)
        while not any(command.startswith("RCPT") for command in peer.commands):
            await asyncio.sleep(0.01)
        core.lost.add(lease)
        async with asyncio.timeout(0.4):
            while peer.open_now:
                await asyncio.sleep(0.01)
    assert lease not in core.reports and not peer.messages


async def test_an_outcome_is_reported_until_the_core_takes_it() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        core.busy_reports = 2
        assert await core.outcomes(core.put(BOB)) == [("relayed", "2.0.0")]
        assert len(peer.messages) == 1


async def test_draining_ends_what_is_under_way_and_gives_back_the_rest() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer:
        peer.replies["content"] = ["250 ok"]
        async with running(core, {"*": f"127.0.0.1:{peer.port}"}, connections_per_host=1, drain_seconds=0.3) as drain:
            peer.reading.clear()
            first, second = core.put(BOB), core.put(CAROL)
            while "DATA" not in peer.commands:
                await asyncio.sleep(0.01)
            drain()
            peer.reading.set()
            assert await core.outcomes(first) == [("relayed", "2.0.0")]
            assert await core.outcomes(second) == []  # left out: back to the queue
    assert len(peer.messages) == 1


async def test_what_does_not_end_in_time_goes_back_to_the_queue() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer:
        peer.replies["RCPT"] = HANG
        async with running(core, {"*": f"127.0.0.1:{peer.port}"}, drain_seconds=0.1) as drain:
            lease = core.put(BOB)
            while not any(command.startswith("RCPT") for command in peer.commands):
                await asyncio.sleep(0.01)
            drain()
            assert await core.outcomes(lease) == []


async def test_with_sending_off_mail_waits_with_that_reason() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, send=False):
        lease = core.put(BOB)
        assert await core.outcomes(lease) == [("deferred", "4.3.2")]
        assert peer.connections == 0
    assert "relay.send" in core.reports[lease][0].diagnostic


async def test_one_line_an_attempt_without_people() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.replies["RCPT TO:<carol"] = "550 5.1.1 <carol@example.net> who?"
        with capture_logs() as lines:
            await core.outcomes(core.put(BOB, CAROL))
    assert len(lines) == 1 and lines[0]["event"] == "attempt"
    assert lines[0]["relayed"] == 1 and lines[0]["failed"] == 1 and lines[0]["destination"] == "example.net"
    assert "bob" not in str(lines) and "carol" not in str(lines)


@pytest.mark.parametrize(
    "settings",
    [
        {"own_name": "mx example"},
        {"own_name": "mx\r\nRSET"},
        {"own_name": "mäx.example"},
        {"connections": 0},
        {"allow_private": ("10.0.0.1/8",)},
        {"routes": (("example.net", ":x"),)},
        {"nameservers": ("ns.example",)},
    ],
)
async def test_settings_that_cannot_be_used_are_errors(settings: dict[str, object]) -> None:
    made = RelaySettings(**{"own_name": "mx.example.test", **settings})  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Relay(made, OutboundQueue(), RelayMetrics(CollectorRegistry()))


def test_settings_come_from_the_configuration() -> None:
    flags = {
        "transport.hostname": "mx.example.test",
        "relay.routes": {"example.net": "127.0.0.1:2525"},
        "relay.allow_private": ["10.0.0.0/8"],
        "relay.port": 26,
        "smtp.listeners": {
            "from others": {"host": "127.0.0.2", "port": 26, "role": "mx"},
            "from others by IPv6": {"host": "::1", "port": 25, "role": "mx"},
            "mx of our users": {"port": 587, "role": "submission"},
        },
    }
    made = RelaySettings.from_config(load(None, {}, flags))
    assert made.own_name == "mx.example.test" and made.port == 26
    assert made.routes == (("example.net", "127.0.0.1:2525"),) and made.allow_private == ("10.0.0.0/8",)
    assert made.ourselves == (("127.0.0.2", 26), ("::1", 25))  # only the ones that take mail from other servers


async def test_a_read_that_breaks_in_its_midst_is_begun_anew_and_the_attempt_goes_on() -> None:
    core = OutboundQueue()
    core.broken_reads = 2
    content = CONTENT + (b"x" * 70 + b"\r\n") * 5_000
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        assert await core.outcomes(core.put(BOB, content=content)) == [("relayed", "2.0.0")]
        (got,) = peer.messages
    assert got.content == content
    assert core.reads == 3
