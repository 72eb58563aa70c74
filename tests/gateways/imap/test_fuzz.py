"""Any input of a client gets an answer or a disconnect, and the gateway continues to serve."""

from __future__ import annotations

import asyncio
import random

import pytest
from structlog.testing import capture_logs

from tests.gateways.imap.conftest import Running
from tests.gateways.imap.stage import Client, message

WORDS = (
    b"1:*",
    b"1",
    b"2,3",
    b"*",
    b"99",
    b"(FLAGS)",
    b"FLAGS",
    b"+FLAGS",
    b"(\\Seen)",
    b"(\\Deleted $K)",
    b"BODY[]",
    b"ENVELOPE",
    b"BODY.PEEK[1.2.HEADER]",
    b"(UID MODSEQ)",
    b"INBOX",
    b"Trash",
    b'"a b"',
    b"Work/&APw-",
    b"ALL",
    b"UNSEEN",
    b"NOT",
    b"OR",
    b"SUBJECT",
    b"x",
    b"RETURN",
    b"(COUNT)",
    b"(MESSAGES RECENT UNSEEN)",
    b'""',
    b"%",
    b"{3+}\r\nabc",
    b"{3}\r\n",
    b"(",
    b")",
    b"UID",
    b"BODY[HEADER.FIELDS (TO)]<0.5>",
    b"(CHANGEDSINCE 1)",
    b"(UNCHANGEDSINCE 5)",
    b"\xff",
    b"DONE",
    b"CHARSET",
    b"UTF-8",
    b"+",
)
VERBS = (
    b"NOOP",
    b"FETCH",
    b"UID FETCH",
    b"STORE",
    b"UID STORE",
    b"SEARCH",
    b"UID SEARCH",
    b"COPY",
    b"UID COPY",
    b"MOVE",
    b"UID MOVE",
    b"EXPUNGE",
    b"UID EXPUNGE",
    b"SELECT",
    b"EXAMINE",
    b"CREATE",
    b"DELETE",
    b"RENAME",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"LIST",
    b"LSUB",
    b"STATUS",
    b"APPEND",
    b"CHECK",
    b"CLOSE",
    b"UNSELECT",
    b"IDLE",
    b"ID",
    b"ENABLE",
    b"GETQUOTA",
    b"GETQUOTAROOT",
    b"CAPABILITY",
    b"NAMESPACE",
    b"LOGIN",
    b"AUTHENTICATE",
    b"STARTTLS",
    b"FROBNICATE",
)


def line(dice: random.Random) -> bytes:
    """A random line, similar to a command or not."""
    if dice.random() < 0.05:
        return dice.randbytes(dice.randrange(40)) + b"\r\n"
    words = [b"t%d" % dice.randrange(100), dice.choice(VERBS)]
    words += [dice.choice(WORDS) for _ in range(dice.randrange(5))]
    text = b" ".join(words)
    if dice.random() < 0.1:
        at = dice.randrange(len(text))
        text = text[:at] + dice.randbytes(1) + text[at + 1 :]
    return text + b"\r\n"


async def session(running: Running, dice: random.Random) -> None:
    client = await Client.open(running, "INBOX")
    try:
        for _ in range(60):
            client.writer.write(line(dice))
            if dice.random() < 0.3:
                await client.writer.drain()
                await asyncio.sleep(0)
        client.writer.write_eof()
        async with asyncio.timeout(20):
            while await client.reader.read(65_536):
                pass
    except ConnectionError:
        pass  # it was cut off
    finally:
        client.writer.close()


@pytest.mark.parametrize("seed", range(12))
async def test_nothing_a_client_sends_breaks_a_session(running: Running, seed: int) -> None:
    dice = random.Random(seed)
    for number in range(1, 6):
        await running.core.deliver("alice", message(number))
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(session(running, random.Random(dice.random())))
        last = await Client.open(running)
        await last.ok("SELECT INBOX")
        last.writer.close()
        await running.runtime.drain()  # the fault of a session is logged at its end
    assert not [entry for entry in logs if entry["log_level"] in ("error", "critical")]
