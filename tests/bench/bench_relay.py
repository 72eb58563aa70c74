"""The speed of mail from one installation to another: `python -m tests.bench.bench_relay [MESSAGES]`.

Two whole installations with a DNS server between them. The mail is queued while the other side is stopped; the measured
time is from its start until the last message is in the mailbox there. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from tests.harness.dns_server import dns_server
from tests.harness.organisation import Organisation, free_ports, organisation

ZONE = "example.net MX 10 mx.example.net.\nmx.example.net A 127.0.0.3"
MESSAGES = 1_000
SENDERS = 8
BODY = b"x" * 70 + b"\r\n"


def submit(ours: Organisation, count: int) -> None:
    """Queue `count` messages of about 2 kB over one session."""
    with ours.submission("alice") as client:
        for number in range(count):
            head = f"From: alice@example.test\r\nTo: bob@example.net\r\nSubject: {number}\r\n\r\n".encode()
            client.sendmail("alice@example.test", ["bob@example.net"], head + 27 * BODY)


def cpu_seconds(where: Organisation) -> dict[str, float]:
    """The CPU seconds of each process of an installation."""
    assert where.process is not None
    used: dict[str, float] = {}
    for child in psutil.Process(where.process.pid).children():
        words = child.cmdline()
        name = "core" if "core" in words else words[words.index("gateway") + 1]
        times = child.cpu_times()
        used[name] = times.user + times.system
    return used


def count(where: Organisation) -> int:
    """The number of messages in bob's Inbox."""
    with where.imap("bob") as client:
        return int(client.select("INBOX", readonly=True)[1][0] or b"0")


async def measure(messages: int) -> dict[str, object]:
    """Run the measurement once."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        async with dns_server(ZONE) as dns:
            port = free_ports(1, "127.0.0.3")[0]
            overrides = {
                "relay.nameservers": [dns.address],
                "relay.port": port,
                "relay.allow_private": ["127.0.0.0/8"],
                "transport.first_retry_minutes": 60.0,
            }
            mine = organisation(directory / "a", "example.test", ["alice"], mx=("127.0.0.2", port), overrides=overrides)
            other = organisation(directory / "b", "example.net", ["bob"], mx=("127.0.0.3", port), overrides=overrides)
            async with mine as ours, other as theirs:
                await theirs.stop()
                began = time.monotonic()
                with ThreadPoolExecutor(SENDERS) as pool:
                    loop = asyncio.get_running_loop()
                    share = messages // SENDERS
                    await asyncio.gather(*(loop.run_in_executor(pool, submit, ours, share) for _ in range(SENDERS)))
                queued = time.monotonic() - began
                await theirs.start()
                before = {"ours": cpu_seconds(ours), "theirs": cpu_seconds(theirs)}
                retry = [sys.executable, "-m", "restante_cli", "admin", "--config"]
                retry += [str(ours.settings.directory / "restante.toml"), "queue", "retry", "--all"]
                began = time.monotonic()
                process = await asyncio.create_subprocess_exec(*retry, stdout=asyncio.subprocess.DEVNULL)
                while await asyncio.to_thread(count, theirs) < share * SENDERS:
                    await asyncio.sleep(0.1)
                seconds = time.monotonic() - began
                await process.wait()
                after = {"ours": cpu_seconds(ours), "theirs": cpu_seconds(theirs)}
                return {
                    "messages": share * SENDERS,
                    "queued_per_second": round(share * SENDERS / queued, 1),
                    "relayed_per_second": round(share * SENDERS / seconds, 1),
                    "cpu_milliseconds_per_message": {
                        f"{side} {name}": round(1_000 * (after[side][name] - used) / (share * SENDERS), 2)
                        for side, names in before.items()
                        for name, used in names.items()
                    },
                }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES)), indent=2))
