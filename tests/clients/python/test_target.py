"""Targets: addresses, channels and names with several cores."""

from __future__ import annotations

import asyncio
from pathlib import Path

from restante.link import CoreLink
from restante.target import Target
from restante.v1 import methods
from restante.v1.batch_pb2 import Operation, OperationResult
from restante.v1.folder_pb2 import GetFolderRequest, GetFolderResponse
from tests.clients.python.conftest import Servers, answer

FAR_SECONDS = 0.2  # delay of a slow connection, each way


async def test_a_core_at_the_end_of_a_slow_line_is_reached_by_the_first_attempt(
    servers: Servers, tmp_path: Path
) -> None:
    async def found(operation: Operation) -> OperationResult | None:
        return answer(operation, get_folder=GetFolderResponse())

    await servers.batches(found)
    near, far, attempts = tmp_path / "near.sock", servers.target.address.removeprefix("unix:"), 0

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65_536):
            await asyncio.sleep(FAR_SECONDS)
            writer.write(octets)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        there_reader, there_writer = await asyncio.open_unix_connection(far)
        await asyncio.gather(carry(reader, there_writer), carry(there_reader, writer), return_exceptions=True)

    async with await asyncio.start_unix_server(relay, near):
        link = await CoreLink.connect(Target(f"unix:{near}"))
        await link.execute(methods.GET_FOLDER, GetFolderRequest(folder_id=1))
        await link.close()
    assert attempts == 1
