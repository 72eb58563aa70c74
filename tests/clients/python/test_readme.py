"""The examples of the Python SDK's README run as they stand there."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import restante
from restante import Client, Target
from tests.server.api.served import DOMAIN, served

README = Path(restante.__file__).parents[1] / "README.md"


def example(section: str) -> str:
    """The example of a section of the README."""
    text = README.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("    ") or not line]
    return textwrap.dedent("\n".join(lines))


async def run(section: str, me: Client) -> None:
    """Run the example of a section as the body of a coroutine that has `me`."""
    program: dict[str, object] = {}
    exec(f"async def run(me):\n{textwrap.indent(example(section), '    ')}", program)
    await program["run"](me)  # type: ignore[operator]


async def subjects(me: Client, folder: str) -> list[str]:
    return sorted([message.summary.subject async for message in me.messages.query(folder)])


@pytest.fixture
async def bob(tmp_path: Path) -> AsyncIterator[Client]:
    """A client of a user with three unread messages in the Inbox."""
    async with (
        served(tmp_path) as core,
        Client.connect(Target(core.unix), user=f"bob@{DOMAIN}", password="bob-demo") as me,
    ):
        for subject in ("Lunch", "Dinner", "lunch again"):
            await me.messages.append("INBOX", f"Subject: {subject}\r\n\r\nHello\r\n".encode())
        yield me


async def test_a_set_of_matching_messages_is_moved(bob: Client, capsys: pytest.CaptureFixture[str]) -> None:
    ids = {message.summary.subject: message.message_id async for message in bob.messages.query("INBOX")}
    await bob.messages.set_flags([ids["Lunch"], ids["Dinner"]], ["seen"])
    elsewhere = await bob.messages.append("Drafts", b"Subject: Lunch in another folder\r\n\r\nHello\r\n")
    await bob.messages.set_flags(elsewhere.message_id, ["seen"])
    await run("Sets of messages", bob)
    assert capsys.readouterr().out == "1 messages are in the archive now\n"
    assert await subjects(bob, "Archive") == ["Lunch"]
    assert await subjects(bob, "INBOX") == ["Dinner", "lunch again"]
    assert await subjects(bob, "Drafts") == ["Lunch in another folder"]


async def test_a_batch_moves_messages_into_a_new_folder(bob: Client, capsys: pytest.CaptureFixture[str]) -> None:
    await run("Batches", bob)
    lunch = await bob.folders.get("Lunch")
    assert capsys.readouterr().out == f"2 messages are in folder {lunch.folder_id}\n"
    assert lunch.message_count == 2
    assert await subjects(bob, "INBOX") == ["Dinner"]
