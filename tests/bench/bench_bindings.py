"""The cost of operations and of server streams over both bindings, with a core in a process of its own.

    python -m tests.bench.bench_bindings [--bindings grpc,frames] [--operations get_numbers,get_folder,...]

Prints a JSON line for each binding and operation, by the number of operations that wait together: CPU milliseconds and
voluntary task switches an operation at both ends, all threads, the least of the rounds, and the operations a second.
`stream` reads STREAMED whole messages by StreamMessages again and again; its figures are for a message.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvloop

from restante.link import CoreLink
from restante.methods import Method
from restante.target import ProcessIdentity, Target
from restante.v1 import folder_pb2, message_pb2, methods
from restante.v1.session_pb2 import AuthenticateRequest, ClientContext, Scope
from restante.v1.types_pb2 import IdRange, UidSet
from restante_gateways.core.frames import Frames
from tests.server.api.served import request_id, served

MESSAGES = 200
ROUNDS = 5
OPERATIONS = 2_000
STREAMED = 100 * MESSAGES
TOGETHER = (1, 4, 20)
READY = "ready in "
BODY = b"From: alice@example.test\r\nSubject: hello\r\n\r\n" + b"The quick brown fox jumps over the lazy dog.\r\n" * 40


def get_folder(_: int) -> tuple[Method[Any, Any], Any]:
    return methods.GET_FOLDER, folder_pb2.GetFolderRequest(folder_id=1)


def get_message(number: int) -> tuple[Method[Any, Any], Any]:
    uid = 1 + number % MESSAGES
    one = message_pb2.MessageSet(uids=UidSet(folder_id=1, ranges=[IdRange(first=uid, last=uid)]))
    columns = [message_pb2.MESSAGE_COLUMN_ENVELOPE, message_pb2.MESSAGE_COLUMN_SIZE]
    return methods.BATCH_GET_MESSAGES, message_pb2.BatchGetMessagesRequest(messages=one, columns=columns)


def get_numbers(_: int) -> tuple[Method[Any, Any], Any]:
    return methods.GET_CHANGE_NUMBERS, folder_pb2.GetChangeNumbersRequest()


@dataclass(frozen=True, slots=True)
class Spent:
    """The CPU time and the task switches of a process so far."""

    seconds: float
    switches: int  # voluntary, of all threads

    @classmethod
    def of(cls, pid: int) -> Spent:
        used = psutil.Process(pid).cpu_times()
        switches = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            lines = (task / "status").read_text().splitlines()
            switches += next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
        return cls(used.user + used.system, switches)


async def measure(
    link: CoreLink, token: bytes, core: int, make: Callable[[int], tuple[Method[Any, Any], Any]], together: int
) -> dict[str, float]:
    numbers = itertools.count()

    async def worker(count: int) -> None:
        for _ in range(count):
            method, request = make(next(numbers))
            await link.execute(method, request, session=token, independent=True)

    async def work() -> None:
        await asyncio.gather(*(worker(OPERATIONS // together) for _ in range(together)))

    return await least(work, core, OPERATIONS)


async def measure_stream(link: CoreLink, token: bytes, core: int) -> dict[str, float]:
    every = message_pb2.MessageSet(uids=UidSet(folder_id=1, ranges=[IdRange(first=1, last=1 << 31)]))
    whole = [message_pb2.Section(kind=message_pb2.SECTION_KIND_WHOLE)]
    request = message_pb2.StreamMessagesRequest(messages=every, sections=whole)

    async def work() -> None:
        count = 0
        while count < STREAMED:
            async for response in link.stream_messages(request, session=token):
                count += len(response.rows.uids)

    return await least(work, core, STREAMED)


async def least(work: Callable[[], Awaitable[None]], core: int, count: int) -> dict[str, float]:
    """The figures of the cheapest round, for each of `count`."""
    rounds = []
    for _ in range(ROUNDS):
        before, own, began = Spent.of(core), Spent.of(os.getpid()), time.perf_counter()
        await work()
        seconds = time.perf_counter() - began
        after, own_after = Spent.of(core), Spent.of(os.getpid())
        rounds.append({
            "core_ms": (after.seconds - before.seconds) / count * 1_000,
            "client_ms": (own_after.seconds - own.seconds) / count * 1_000,
            "core_switches": (after.switches - before.switches) / count,
            "client_switches": (own_after.switches - own.switches) / count,
            "rate": count / seconds,
        })  # fmt: skip
    best = min(rounds, key=lambda each: each["core_ms"] + each["client_ms"])
    return {name: round(value, 4) for name, value in best.items()}


async def log_on(link: CoreLink) -> bytes:
    request = AuthenticateRequest(mechanism="PLAIN", response=b"\0bob@example.test\0bob-demo", scope=Scope.SCOPE_IMAP)
    request.client.CopyFrom(ClientContext(client_address="192.0.2.9", listener="imap", tls=True))
    return (await link.execute(methods.AUTHENTICATE, request)).session.session_token


async def client(directory: Path, core: int, bindings: list[str], operations: list[str]) -> None:
    secret = (directory / "secrets/imap.secret").read_text().strip()
    target = Target(f"unix:{directory}/core.sock", ProcessIdentity("imap", secret), window_octets=1 << 20)
    for binding in bindings:
        frames = Frames() if binding == "frames" else None
        link = await CoreLink.connect(target, open_carrier=frames, open_server_stream=frames.call if frames else None)
        token = await log_on(link)
        if binding == bindings[0]:
            for _ in range(MESSAGES):
                request = message_pb2.AppendMessageRequest(folder_id=1, content=BODY, request_id=request_id())
                await link.execute(methods.APPEND_MESSAGE, request, session=token)
        for make in (make for make in (get_numbers, get_folder, get_message) if make.__name__ in operations):
            for together in TOGETHER:
                found = await measure(link, b"" if make is get_numbers else token, core, make, together)
                print(json.dumps({"binding": binding, "operation": make.__name__, "together": together} | found))
                sys.stdout.flush()
        if "stream" in operations:
            found = await measure_stream(link, token, core)
            print(json.dumps({"binding": binding, "operation": "stream", "together": 1} | found))
        await link.close()


async def core(scratch: Path) -> None:
    async with served(scratch) as box:
        print(f"{READY}{box.directory}", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bindings", default="grpc,frames")
    parser.add_argument("--operations", default="get_numbers,get_folder,get_message,stream")
    parser.add_argument("--core", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "GRPC_EXPERIMENTS" not in os.environ:  # gRPC has read it; every process of the platform has this value
        os.environ["GRPC_EXPERIMENTS"] = "-event_engine_client,-event_engine_listener"
        os.execv(sys.executable, [sys.executable, "-m", "tests.bench.bench_bindings", *sys.argv[1:]])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if arguments.core:
            runner.run(core(arguments.core))
            return
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "tests.bench.bench_bindings", "--core", scratch]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                line = next(line for line in process.stdout if line.startswith(READY))
                directory = Path(line.removeprefix(READY).strip())
                runner.run(
                    client(directory, process.pid, arguments.bindings.split(","), arguments.operations.split(","))
                )
                process.communicate("")


if __name__ == "__main__":
    main()
