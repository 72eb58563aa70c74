"""Responses that are too large for an operation of the Execute stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from restante import Client, Target, errors
from restante.v1 import methods
from restante.v1.folder_pb2 import ReadFolderChangesRequest
from restante.v1.message_pb2 import SearchMessagesRequest
from restante_server.api.engine import execute
from tests.server.api.served import DOMAIN, Served, served


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:
        yield made


async def test_a_large_result_comes_by_a_call_of_its_own(core: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Client.connect(Target(core.unix), user=f"bob@{DOMAIN}", password="bob-demo") as me:
        for number in range(9):
            await me.messages.append("Inbox" if number % 2 else "Archive", b"Subject: x\r\n\r\n")
        inbox = await me.folders.id_of("Inbox")
        monkeypatch.setattr(execute, "MAX_RESULT_OCTETS", 8)
        found = await me.execute(methods.SEARCH_MESSAGES, SearchMessagesRequest())
        assert sum(run.last - run.first + 1 for run in found.message_ids) == 9
        with pytest.raises(errors.ResultTooLarge):  # which a stream has instead
            await me.execute(methods.READ_FOLDER_CHANGES, ReadFolderChangesRequest(folder_id=inbox))
