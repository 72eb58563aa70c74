"""MAIL, RCPT and DATA sent together: the outcomes are those of commands sent one by one (RFC 2920)."""

from __future__ import annotations

import pytest

from tests.gateways.relay.conftest import running
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.smtp_peer import DROP, EXTENSIONS, HANG, Reply, smtp_peer

ONE, TWO, THREE = "one@example.net", "two@example.net", "three@example.net"
WITHOUT = tuple(word for word in EXTENSIONS if word != "PIPELINING")


async def test_commands_up_to_data_are_sent_without_waiting_for_replies() -> None:  # RFC 2920 3.1
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.together = True  # a relay that waits for the reply to MAIL waits for ever
        peer.replies["RCPT TO:<two"] = "550-5.1.1 no such\n550 5.1.1 user"
        lease = core.put(ONE, TWO, THREE)
        assert await core.outcomes(lease) == [("relayed", "2.0.0"), ("failed", "5.1.1"), ("relayed", "2.0.0")]
        assert core.reports[lease][1].diagnostic == "550 5.1.1 no such user"
        assert await core.outcomes(core.put(ONE)) == [("relayed", "2.0.0")]  # the next message keeps its place
        assert peer.connections == 1
    assert [len(message.recipients) for message in peer.messages] == [2, 1]


@pytest.mark.parametrize("extensions", [EXTENSIONS, WITHOUT], ids=["pipelined", "one by one"])
@pytest.mark.parametrize(
    ("replies", "outcomes"),
    [
        ({"RCPT TO:<one": "550 5.1.1 no", "RCPT TO:<two": "450 4.2.1 later"}, "failed 5.1.1, deferred 4.2.1, relayed"),
        ({"RCPT": "550 5.1.1 no"}, "failed 5.1.1, failed 5.1.1, failed 5.1.1"),
        ({"RCPT": "550 5.1.1 no", "DATA": "554 5.5.1 no valid recipients"}, "failed 5.1.1, failed 5.1.1, failed 5.1.1"),
        ({"RCPT": "550 5.1.1 no", "content": "250 2.0.0 taken"}, "failed 5.1.1, failed 5.1.1, failed 5.1.1"),
        ({"RCPT": "550 5.1.1 no", "content": DROP}, "failed 5.1.1, failed 5.1.1, failed 5.1.1"),
        ({"RCPT": "550 5.1.1 no", "DATA": HANG}, "failed 5.1.1, failed 5.1.1, failed 5.1.1"),
        ({"MAIL": "550 5.7.1 no"}, "failed 5.7.1, failed 5.7.1, failed 5.7.1"),
        (
            {"MAIL": "451 4.7.1 no", "RCPT": "503 5.5.1 MAIL?", "DATA": "503 5.5.1 MAIL?"},
            ", ".join(["deferred 4.7.1"] * 3),
        ),
        ({"MAIL": "550 5.7.1 no", "RCPT": DROP}, "failed 5.7.1, failed 5.7.1, failed 5.7.1"),
        (
            {"RCPT TO:<one": "550 5.1.1 no", "RCPT TO:<two": "421 4.7.0 too many DROP"},
            "failed 5.1.1, deferred 4.7.0, deferred 4.7.0",
        ),
        (
            {"RCPT TO:<one": "550 5.1.1 no", "RCPT TO:<three": "421 4.7.0 too many"},
            "failed 5.1.1, deferred 4.7.0, deferred 4.7.0",
        ),
        ({"RCPT TO:<two": "421 4.7.0 too many"}, "deferred 4.7.0, deferred 4.7.0, deferred 4.7.0"),
        ({"RCPT TO:<one": "550 5.1.1 no", "RCPT TO:<two": DROP}, "failed 5.1.1, deferred 4.4.2, deferred 4.4.2"),
        ({"RCPT TO:<two": "550 5.1.1 no", "RCPT TO:<three": HANG}, "deferred 4.4.2, failed 5.1.1, deferred 4.4.2"),
        ({"RCPT TO:<two": "550 5.1.1 no", "DATA": "421 4.3.2 bye"}, "deferred 4.3.2, failed 5.1.1, deferred 4.3.2"),
        ({"RCPT TO:<two": "550 5.1.1 no", "DATA": DROP}, "deferred 4.4.2, failed 5.1.1, deferred 4.4.2"),
        ({"RCPT TO:<two": "550 5.1.1 no", "DATA": "250 what?"}, "deferred 4.5.0, failed 5.1.1, deferred 4.5.0"),
        ({"RCPT TO:<two": "550 5.1.1 no", "content": DROP}, "deferred 4.4.2, failed 5.1.1, deferred 4.4.2"),
        ({"RCPT TO:<two": ["452 4.5.3 too many", "250 ok"]}, "relayed, relayed, relayed"),
        ({"RCPT TO:<two": b"garbage\r\n"}, "deferred 4.4.2, deferred 4.4.2, deferred 4.4.2"),
    ],
)
async def test_outcomes_do_not_depend_on_pipelining(
    replies: dict[str, Reply | list[Reply]], outcomes: str, extensions: tuple[str, ...]
) -> None:
    core = OutboundQueue()
    async with smtp_peer(extensions=extensions) as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.replies |= {event: list(reply) if isinstance(reply, list) else reply for event, reply in replies.items()}
        ends = await core.outcomes(core.put(ONE, TWO, THREE))
        assert ", ".join(kind if kind == "relayed" else f"{kind} {status}" for kind, status in ends) == outcomes
        peer.replies.clear()
        assert await core.outcomes(core.put(ONE)) == [("relayed", "2.0.0")]  # the relay continues


@pytest.mark.parametrize("answer", ["250 2.0.0 taken", "554 5.5.1 no recipients"])
async def test_a_message_without_recipients_is_a_lone_dot(answer: str) -> None:  # RFC 2920 3.1
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.replies |= {"RCPT": "550 5.1.1 no", "content": answer}
        assert await core.outcomes(core.put(ONE, TWO)) == [("failed", "5.1.1")] * 2
        assert all(message.content == b"" and not message.recipients for message in peer.messages)
        peer.replies.clear()
        peer.messages.clear()
        assert await core.outcomes(core.put(ONE)) == [("relayed", "2.0.0")]
        assert peer.connections == 1
    assert [message.recipients for message in peer.messages] == [[f"<{ONE}>"]]


async def test_a_message_that_begins_without_mail_is_cut() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        peer.replies["MAIL"] = "550 5.7.1 no"  # and DATA gets 354
        assert await core.outcomes(core.put(ONE)) == [("failed", "5.7.1")]
    assert not peer.messages
