"""How costs grow with the messages of a folder and with the mailboxes of a store; `make bench-growth`.

    python -m tests.bench.growth [--store postgresql] [--messages 1000,10000] [--mailboxes 10,1000] [--short]

The store is filled by its own functions while no core runs. Then one client on one connection gives each command in
turn. The CPU is that of the core and the gateways for each operation, or for each message where the row says so. It is
exact to microseconds. The latency is that of a client that waits. Prints one JSON line for each measurement, then a
table.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import smtplib
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restante_process.config import Config
from restante_process.options import read_config
from tests.bench import platforms
from tests.bench.filling import fill, letter, verifier_of

PASSWORD = "password001"  # of every account of this benchmark
SETTLE_SECONDS = 0.3  # work that the server puts off belongs to the operation
DELIVERED = 500  # messages, for their size on disk
LIST = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"


@dataclass
class Imap:
    """An IMAP client that reads responses without interpreting them."""

    port: int
    user: str
    _count: int = 0
    _socket: socket.socket = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.recv(4_096)
        self.command(f"LOGIN {self.user}@bench.test {PASSWORD}")

    def command(self, text: str) -> bytes:
        """Give a command and return the whole response. Raises RuntimeError unless it is OK."""
        self._count += 1
        tag = b"\r\nx%d " % self._count
        self._socket.sendall(tag[2:] + text.encode() + b"\r\n")
        received = bytearray(b"\r\n")
        end = -1
        while end < 0 or not received.endswith(b"\r\n", end + 2):
            data = self._socket.recv(1 << 18)
            if not data:
                raise RuntimeError(f"{text}: the connection was closed")
            end = received.find(tag, max(0, len(received) - len(tag))) if end < 0 else end
            received += data
            end = received.find(tag, max(0, len(received) - len(data) - len(tag))) if end < 0 else end
        if not received.startswith(b"OK", end + len(tag)):
            raise RuntimeError(f"{text}: {bytes(received[end:])!r}")
        return bytes(received)

    def close(self) -> None:
        self.command("LOGOUT")
        self._socket.close()


@dataclass
class Bench:
    """A running platform and its measurements."""

    base: int
    processes: list[tuple[str, int]]
    place: dict[str, Any]  # facts of every measurement, such as the size of the folder
    rows: list[dict[str, Any]] = field(default_factory=list)

    def imap(self, user: str) -> Imap:
        return Imap(self.base + 143, user)

    def measure(self, row: str, work: Callable[[int], object], count: int, for_each: int = 1) -> None:
        """Call `work` `count` times and note CPU and latency; `for_each`: messages in one call."""
        before, latencies = self._cpu(), []
        for number in range(count):
            began = time.perf_counter()
            work(number)
            latencies.append(1_000 * (time.perf_counter() - began))
        time.sleep(SETTLE_SECONDS)
        after = self._cpu()
        used = {kind: (after[kind] - before[kind]) / count / for_each for kind in after}
        latencies.sort()
        self.note(
            row,
            cpu_ms=sum(used.values()),
            cpu_ms_by_process={kind: round(value, 5) for kind, value in used.items() if value > 1e-5},
            p50_ms=latencies[len(latencies) // 2],
            p99_ms=latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)],
            count=count * for_each,
        )

    def note(self, row: str, **facts: Any) -> None:
        rounded = {key: round(value, 5) if isinstance(value, float) else value for key, value in facts.items()}
        self.rows.append({**self.place, "row": row, **rounded})
        print(json.dumps(self.rows[-1]), flush=True)

    def core_memory(self) -> None:
        """Note the memory of the cores: resident, private (malloc, Python), and mapped files (SQLite, libraries)."""
        for kind, pid in self.processes:
            if kind == "core":
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                found = {name: int(octets) / 1_024 for name, octets in re.findall(r"(\w+): +(\d+) kB", text)}
                mapped = found["Rss"] - found["Anonymous"]
                self.note("core memory", rss_mib=found["Rss"], private_mib=found["Anonymous"], mapped_mib=mapped)

    def _cpu(self) -> dict[str, float]:
        """{kind: milliseconds of CPU of its processes since their start}."""
        total: dict[str, float] = {}
        for kind, pid in self.processes:
            clock = (~pid << 3) | 2  # clock_getcpuclockid(3)
            total[kind] = total.get(kind, 0.0) + time.clock_gettime_ns(clock) / 1e6
        return total


def of_folder(bench: Bench, user: str, size: int) -> None:
    """Measure the commands on the INBOX of `user`, which has `size` messages."""
    chosen = random.Random(size)
    cold = bench.imap(user)
    bench.measure("SELECT, no session has it open", lambda _: cold.command("SELECT INBOX"), 1)
    others = [bench.imap(user) for _ in range(20)]
    bench.measure("SELECT, open in another session", lambda number: others[number].command("SELECT INBOX"), 20)
    for other in others:
        other.close()
    bench.measure("single FETCH", lambda _: cold.command(f"FETCH {chosen.randint(1, size)} (BODY.PEEK[])"), 300)
    bench.measure("SEARCH by columns, a message", lambda _: cold.command("SEARCH SINCE 1-Sep-2026 LARGER 100"), 5, size)
    bench.measure("FETCH list, a message", lambda _: cold.command(f"FETCH 1:* {LIST}"), 3, size)
    bench.core_memory()
    cold.close()
    alone = bench.imap(user)
    folders = ("INBOX", "Drafts")
    bench.measure("reselect", lambda number: alone.command(f"SELECT {folders[number % 2]}"), 100)
    alone.close()
    deliver(bench, [user])


def deliver(bench: Bench, users: list[str], count: int = 200) -> None:
    """Measure deliveries to these users in turn, on one connection."""
    with smtplib.SMTP("127.0.0.1", bench.base + 25) as smtp:

        def send(number: int) -> None:
            to = f"{users[number % len(users)]}@bench.test"
            smtp.sendmail("sender@sender.test", [to], letter(number))

        bench.measure("delivery", send, count)


def of_store(bench: Bench, users: list[str]) -> None:
    """Measure what the number of mailboxes could make dearer."""
    chosen = random.Random(1).sample(users, min(200, len(users)))
    deliver(bench, chosen)
    clients = [bench.imap(user) for user in chosen[:10]]
    bench.measure("SELECT of a small folder", lambda number: clients[number % 10].command("SELECT INBOX"), 100)
    for client in clients:
        client.close()
    bench.core_memory()


def of_disk(bench: Bench, settings: Config) -> None:
    """Measure what delivered messages take in a SQLite store, by table with its indexes."""
    before = octets_by_table(settings)
    deliver(bench, ["u001"], DELIVERED)
    grown = {name: (octets - before.get(name, 0)) / DELIVERED for name, octets in octets_by_table(settings).items()}
    largest = sorted(grown.items(), key=lambda item: -item[1])
    by_table = {name: round(octets) for name, octets in largest if octets >= 1}
    bench.note("a delivered message on disk", octets=round(sum(grown.values())), by_table=by_table)


def octets_by_table(settings: Config) -> dict[str, int]:
    """The octets of the pages of each table of a SQLite store, its indexes included."""
    query = """SELECT m.tbl_name, sum(d.pgsize) FROM dbstat d JOIN sqlite_master m ON m.name = d.name
               WHERE d.aggregate = 1 GROUP BY m.tbl_name"""
    with contextlib.closing(sqlite3.connect(f"file:{settings.directory / 'store.db'}?mode=ro", uri=True)) as store:
        return dict(store.execute(query))


@contextlib.contextmanager
def running(directory: Path, base: int, url: str, place: dict[str, Any], rows: list[dict[str, Any]]) -> Iterator[Bench]:
    """The platform on a filled store."""
    with platforms.platform(directory, base, url) as supervisor:
        yield Bench(base, platforms.processes(supervisor), place, rows)


def run(directory: Path, url: str, sizes: list[int], mailboxes: list[int]) -> list[dict[str, Any]]:
    """All measurements."""
    base, rows = platforms.free_base(), []  # type: int, list[dict[str, Any]]
    if url:
        os.environ["RESTANTE_STORE__URL"] = url
    with running(directory, base, url, {"messages": 0}, rows) as bench:
        asyncio.run(platforms.add_users(directory))
        settings = read_config(None, directory, ())
        if not url:
            of_disk(bench, settings)
    verifier = asyncio.run(verifier_of(settings, "u001@bench.test"))
    for size in sizes:
        before, began = octets_of(settings), time.perf_counter()
        asyncio.run(fill(settings, {f"g{size}": size}, [f"g{size}"], verifier))
        seconds = time.perf_counter() - began
        with running(directory, base, url, {"messages": size}, rows) as bench:
            if before:
                bench.note("octets on disk, a message", octets=round((octets_of(settings) - before) / size))
            bench.note("filling, messages a second", per_second=round(size / seconds))
            of_folder(bench, f"g{size}", size)
    made: list[str] = []
    for number in mailboxes:
        more = [f"m{each}" for each in range(len(made), number)]
        asyncio.run(fill(settings, {}, more, verifier))
        made += more
        with running(directory, base, url, {"mailboxes": number}, rows) as bench:
            of_store(bench, made)
    return rows


def octets_of(settings: Config) -> int:
    """The size of a SQLite store with its contents; 0 for PostgreSQL."""
    if not settings.store_url.startswith("sqlite"):
        return 0
    files = [*settings.directory.glob("store.db*"), *settings.contents_directory.rglob("*")]
    return sum(path.stat().st_blocks * 512 for path in files if path.is_file())


def table(rows: list[dict[str, Any]]) -> str:
    """Rows by what they measure, columns by the size."""
    lines = []
    for key in ("messages", "mailboxes"):
        sizes = sorted({row[key] for row in rows if key in row})
        if not sizes:
            continue
        lines += ["", f"| {key} | " + " | ".join(f"{size:,}" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
        for name in dict.fromkeys(row["row"] for row in rows if key in row):
            cells = [
                next((cell(row) for row in rows if (row.get(key), row["row"]) == (size, name)), "") for size in sizes
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(row: dict[str, Any]) -> str:
    """The figures of one measurement."""
    if "cpu_ms" in row:
        return f"{row['cpu_ms']:.3g} CPU-ms; p50 {row['p50_ms']:.3g}, p99 {row['p99_ms']:.3g} ms"
    if "rss_mib" in row:
        return f"{row['rss_mib']:.0f} MiB: {row['private_mib']:.0f} private, {row['mapped_mib']:.0f} mapped"
    return f"{row.get('octets', row.get('per_second')):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--store", default="sqlite", help="sqlite (default), postgresql, or the URL of an empty database"
    )
    parser.add_argument("--messages", default="1000,10000,100000", help="messages in a folder, with commas")
    parser.add_argument("--mailboxes", default="10,1000,10000", help="mailboxes in the store, with commas")
    parser.add_argument("--short", action="store_true", help="1,000 and 4,000 messages, 10 and 500 mailboxes")
    arguments = parser.parse_args()
    messages, mailboxes = ("1000,4000", "10,500") if arguments.short else (arguments.messages, arguments.mailboxes)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="restante-growth-")))
        url = "" if arguments.store == "sqlite" else arguments.store
        if arguments.store == "postgresql":
            url = stack.enter_context(platforms.postgresql())
        sizes, numbers = ([int(each) for each in text.split(",") if each] for text in (messages, mailboxes))
        print(table(run(scratch / "data", url, sizes, numbers)))


if __name__ == "__main__":
    main()
