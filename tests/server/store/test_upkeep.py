"""What is past its time goes, in every mailbox; what is not stays."""

from __future__ import annotations

from restante.config import Store
from restante_server.store import changes, mailboxes, removal, requests, upkeep
from restante_server.store.removal import Mode
from tests.server.store.material import NOW, Box, uids

KEY = requests.Key(0, "account:1", b"r" * 16)


async def test_old_deletions_and_removals_are_forgotten(box: Box, other: Box) -> None:
    for mine in (box, other):
        await mine.fill(mine.inbox, 4)
        await mine.write(removal.remove, uids(mine.inbox, 1, 2), Mode.SOFT, NOW)
        await mine.write(removal.remove, uids(mine.inbox, 3), Mode.SOFT, NOW + 20 * upkeep.DAY)
    await upkeep.tidy(box.database, Store(), NOW + 15 * upkeep.DAY)
    for mine in (box, other):
        assert (await mine.read(mailboxes.get)).recoverable_count == 1
        assert len(await mine.read(changes.removals, 0)) == 2
    await upkeep.tidy(box.database, Store(), NOW + 31 * upkeep.DAY)
    for mine in (box, other):
        start = await mine.read(changes.history_from)
        assert (len(await mine.read(changes.removals, start)), start > 0) == (1, True)


async def test_request_ids_are_forgotten_when_they_expire(box: Box) -> None:
    def remember(tx, mailbox_id):  # type: ignore[no-untyped-def]
        requests.remember(tx, KEY, "Method", b"f", b"answer", NOW)

    await box.write(remember)
    await upkeep.tidy(box.database, Store(), NOW)
    assert await box.database.read(requests.find, KEY, "Method", b"f") == b"answer"
    await upkeep.tidy(box.database, Store(), NOW + 1)
    assert await box.database.read(requests.find, KEY, "Method", b"f") is None
