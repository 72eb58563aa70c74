"""The SDK's sync with the running platform."""

from __future__ import annotations

import pytest

from restante.client import Client
from restante.v1.sync_pb2 import SyncMailboxResponse
from tests.end_to_end.test_client import MESSAGE, alice, folder

__all__ = ["alice", "folder"]  # fixtures

pytestmark = pytest.mark.end_to_end


async def test_sync_begins_with_everything_and_goes_on_from_its_cursor(alice: Client, folder: str) -> None:
    for number in range(3):
        await alice.messages.append(folder, MESSAGE % b"%d" % number)

    def ids(steps: list[SyncMailboxResponse]) -> list[int]:
        return [each for step in steps if step.HasField("messages") for each in step.messages.message_ids]

    steps = [step async for step in alice.changes.sync(folder=folder, follow=False)]
    assert len(ids(steps)) == 3
    assert steps[-1].HasField("checkpoint")
    made = await alice.messages.append(folder, MESSAGE % b"later")
    later = [step async for step in alice.changes.sync(folder=folder, cursor=steps[-1].checkpoint.cursor, follow=False)]
    assert ids(later) == [made.message_id]
