"""The waiting time of one account while another makes the most requests it can.

`python -m tests.bench.bench_fair` prints JSON. A core, a greedy client and a moderate one run in separate processes.
The greedy client has STREAMS Execute streams with TOGETHER reads on each, and ignores the server's retry delays; the
moderate one reads one folder after another.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop

from restante.errors import from_status
from restante.v1.batch_pb2 import ExecuteRequest, ExecuteResponse, Operation
from restante.v1.folder_pb2 import GetFolderRequest
from tests.server.api.served import served, token_metadata

STREAMS = 60
TOGETHER = 60
SECONDS = 6.0
WARM_SECONDS = 2.0  # with the greedy client alone
PAUSE_SECONDS = 0.02  # between two reads of the moderate client


def _execute(channel: grpc.aio.Channel, token: bytes) -> Any:
    begin = channel.stream_stream(
        "/restante.v1.BatchService/Execute",
        request_serializer=ExecuteRequest.SerializeToString,
        response_deserializer=ExecuteResponse.FromString,
    )
    return begin(metadata=token_metadata(token))


async def _greedy_stream(channel: grpc.aio.Channel, token: bytes, until: float, counts: dict[str, int]) -> None:
    call = _execute(channel, token)
    numbers = itertools.count(1)

    def batch(count: int) -> ExecuteRequest:
        read = GetFolderRequest(folder_id=1)
        return ExecuteRequest(
            operations=[Operation(operation_id=next(numbers), independent=True, get_folder=read) for _ in range(count)]
        )

    await call.write(batch(TOGETHER))
    while time.monotonic() < until:
        answers = await asyncio.wait_for(call.read(), 60)
        for result in answers.results:
            counts[from_status(result.status).reason if result.HasField("status") else "OK"] += 1
        if answers.results:
            await call.write(batch(len(answers.results)))
    call.cancel()


async def greedy(address: str, token: bytes, seconds: float) -> dict[str, int]:
    """The number of answers with each reason."""
    counts: dict[str, int] = collections.Counter()
    until = time.monotonic() + seconds
    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.gather(*(_greedy_stream(channel, token, until, counts) for _ in range(STREAMS)))
    return dict(counts)


async def innocent(address: str, token: bytes, seconds: float) -> dict[str, float]:
    """Milliseconds of one read."""
    found: list[float] = []
    until = time.monotonic() + seconds
    async with grpc.aio.insecure_channel(address) as channel:
        call = _execute(channel, token)
        for number in itertools.count(1):
            if time.monotonic() > until:
                break
            read = Operation(operation_id=number, get_folder=GetFolderRequest(folder_id=1))
            began = time.perf_counter()
            await call.write(ExecuteRequest(operations=[read]))
            answer = await call.read()
            assert not answer.results[0].HasField("status"), answer
            found.append((time.perf_counter() - began) * 1_000)
            await asyncio.sleep(PAUSE_SECONDS)
        call.cancel()
    found.sort()
    p50, p99 = (round(found[len(found) * part // 100], 2) for part in (50, 99))
    return {"reads": len(found), "p50": p50, "p99": p99}


async def _client(role: str, address: str, token: bytes, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.bench_fair", role, address, token.hex(), str(seconds)]
    child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await child.communicate()
    assert child.returncode == 0, role
    found: dict[str, float] = json.loads(output)
    return found


async def run() -> dict[str, dict[str, float]]:
    """Figures of the moderate client alone and beside the greedy one, and the answers to the greedy one."""
    with tempfile.TemporaryDirectory() as scratch:
        async with served(Path(scratch)) as box:
            alice, bob = [(await box.session(name)).session_token for name in ("alice", "bob")]
            alone = await _client("innocent", box.unix, bob, SECONDS / 2)
            taking = asyncio.create_task(_client("greedy", box.unix, alice, SECONDS + 2 * WARM_SECONDS))
            await asyncio.sleep(WARM_SECONDS)
            beside = await _client("innocent", box.unix, bob, SECONDS)
            return {"alone": alone, "beside": beside, "greedy": await taking}


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if len(sys.argv) > 1:
        role, address, token, seconds = sys.argv[1:]
        client = {"greedy": greedy, "innocent": innocent}[role]
        print(json.dumps(asyncio.run(client(address, bytes.fromhex(token), float(seconds)))))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(run()), indent=2))
