"""Kill the processes of a running platform at random moments under load, and count every message afterwards.

    python -m tests.faults.kill_rounds [--rounds 100] [--queued 100000] [--postgres | --store URL] [--seed N]

Each message is sent once, with a unique header, and never repeated. A message answered 250 or OK must be found exactly
once for each recipient; a refused one, never; one whose answer was lost, at most once. After each round the core must
be ready within five seconds, a whole IMAP and SMTP conversation must work soon after, and the store must pass `check`.
With `--queued`, so many recipients of a domain that takes no mail wait beside the load, are attempted again and again,
and must all still wait after each round.
Prints a JSON line a round; exits 1 at the first violation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import imaplib
import json
import random
import re
import secrets
import signal
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
from sqlalchemy import func, select

from restante.calls import Calls
from restante.jobs import Jobs
from restante.queue import Queue
from restante.v1.queue_pb2 import QueueSelector
from restante_cli.connect import admin_link
from restante_process.options import read_config
from restante_server.db.engine import open_backend
from restante_server.db.schema import transport_recipient
from tests.bench.platforms import free_base, platform
from tests.harness import stuck
from tests.harness.postgres import PostgresServer, running_cluster

PEOPLE = ("alice", "bob", "carol")
DOMAIN = "example.test"
DEAD = "dead.example"  # the demo sends no mail to other servers: every attempt is deferred
HEADER = "X-Kill-Id"
BACK_SECONDS = 5.0  # until the core is ready
CONVERSATION_SECONDS = 15.0  # until a conversation works: every gateway has restarted too
LOAD_SECONDS = 2.0
VICTIMS = ("core", "smtp", "imap", "pop3", "relay", "all")
PATIENCE_SECONDS = 30.0  # of the client, for one answer

Answer = Literal["accepted", "refused", "lost"]


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that was sent, and its outcome."""

    id: str
    recipients: tuple[str, ...]
    folder: str
    answer: Answer


@dataclass
class Load:
    """Clients that send as fast as they can until `stop` is set."""

    base: int
    sent: list[Sent] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, seconds: float) -> list[threading.Thread]:
        """Start the threads; they end after `seconds`."""
        threading.Timer(seconds, self.stop.set).start()
        work: list[Callable[[], None]] = [self._smtp, self._smtp, self._submission, self._append, self._append]
        threads = [threading.Thread(target=self._again, args=(each,), daemon=True) for each in work]
        for thread in threads:
            thread.start()
        return threads

    def _again(self, work: Callable[[], None]) -> None:
        while not self.stop.is_set():
            try:
                work()
            except (OSError, smtplib.SMTPException, imaplib.IMAP4.error):
                time.sleep(0.02)  # nothing was sent: the connection failed

    def _note(self, id_: str, recipients: tuple[str, ...], answer: Answer, folder: str = "INBOX") -> None:
        self.sent.append(Sent(id_, recipients, folder, answer))

    def _smtp(self) -> None:
        with contextlib.closing(_smtp(self.base + 25)) as client:
            while not self.stop.is_set():
                self._send(client, "someone@example.org", tuple(random.sample(PEOPLE, random.randint(1, 3))))

    def _submission(self) -> None:
        with contextlib.closing(_smtp(self.base + 587)) as client:
            client.login(f"alice@{DOMAIN}", "alice-demo")
            while not self.stop.is_set():
                self._send(client, f"alice@{DOMAIN}", (random.choice(PEOPLE),))

    def _send(self, client: smtplib.SMTP, sender: str, names: tuple[str, ...]) -> None:
        id_ = secrets.token_hex(8)
        octets = _message(id_, sender)
        began = False
        try:
            client.mail(sender)
            for name in names:
                code, _ = client.rcpt(f"{name}@{DOMAIN}")
                if code >= 300:
                    client.rset()
                    self._note(id_, names, "refused")
                    return
            began = True
            code, _ = client.data(octets)
            self._note(id_, names, "accepted" if code == 250 else "refused")
        except smtplib.SMTPDataError:
            self._note(id_, names, "refused")
        except (OSError, smtplib.SMTPException):
            self._note(id_, names, "lost" if began else "refused")
            raise

    def _append(self) -> None:
        with contextlib.closing(imap_client(self.base, "carol")) as client:
            while not self.stop.is_set():
                id_ = secrets.token_hex(8)
                try:
                    kind, _ = client.append("Archive", "", "", _message(id_, "carol"))
                    self._note(id_, ("carol",), "accepted" if kind == "OK" else "refused", "Archive")
                except (OSError, imaplib.IMAP4.abort):
                    self._note(id_, ("carol",), "lost", "Archive")
                    raise


class _Client(imaplib.IMAP4):
    def close(self) -> None:  # type: ignore[override]
        """Close only the socket, so that nothing is expunged."""
        self.shutdown()


def imap_client(base: int, name: str) -> imaplib.IMAP4:
    """A logged-in session; closing it closes only its socket."""
    client = _Client("127.0.0.1", base + 143, timeout=PATIENCE_SECONDS)
    client.login(f"{name}@{DOMAIN}", f"{name}-demo")
    return client


def _smtp(port: int) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    client.ehlo()
    return client


def _message(id_: str, sender: str) -> bytes:
    body = b"x" * random.choice((50, 2_000, 100_000))
    lines = b"\r\n".join(body[start : start + 76] for start in range(0, len(body), 76))
    return f"From: {sender}\r\nSubject: kill\r\n{HEADER}: {id_}\r\n\r\n".encode() + lines + b"\r\n"


def found(base: int, name: str, folder: str) -> Counter[str]:
    """The number of messages with each id in a folder, which is then emptied."""
    with contextlib.closing(imap_client(base, name)) as client:
        client.select(folder)
        _, answer = client.uid("FETCH", "1:*", f"(BODY.PEEK[HEADER.FIELDS ({HEADER})])")
        text = b"".join(part[1] for part in answer if isinstance(part, tuple))
        ids = Counter(match.decode() for match in re.findall(HEADER.encode() + rb": ([0-9a-f]+)", text))
        if ids:
            client.uid("STORE", "1:*", "+FLAGS.SILENT", "(\\Deleted)")
            client.expunge()
        return ids


def violations(sent: list[Sent], places: dict[tuple[str, str], Counter[str]]) -> list[str]:
    """The violations: messages missing, found twice, or found although refused."""
    wrong = []
    for message in sent:
        for name in message.recipients:
            count = places[name, message.folder][message.id]
            least, most = {"accepted": (1, 1), "refused": (0, 0), "lost": (0, 1)}[message.answer]
            if not least <= count <= most:
                wrong.append(f"{message.answer} {message.id} for {name} in {message.folder}: {count} times")
    return wrong


def processes(supervisor: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """The platform's processes by name."""
    by_name = {}
    for child in psutil.Process(supervisor.pid).children():
        with contextlib.suppress(psutil.Error):
            words = child.cmdline()
            if "gateway" in words:
                by_name[words[words.index("gateway") + 1]] = child
            elif "core" in words:
                by_name["core"] = child
    return by_name


def kill(supervisor: subprocess.Popen[bytes], victim: str) -> None:
    """End one process, or all but the supervisor, by SIGKILL."""
    alive = processes(supervisor)
    for child in alive.values() if victim == "all" else [alive[victim]] if victim in alive else []:
        with contextlib.suppress(psutil.Error):
            child.send_signal(signal.SIGKILL)


def wait_until_ready(base: int, seconds: float) -> float:
    """Wait until the core is ready; returns the seconds waited. Raises TimeoutError."""
    began = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{base + 91}/readyz", timeout=1.0):
                return time.monotonic() - began
        except OSError:
            pass
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"the core is not back after {seconds} s")
        time.sleep(0.02)


def wait_until_back(base: int, seconds: float) -> float:
    """Wait until a whole IMAP and SMTP conversation works; returns the seconds waited. Raises TimeoutError."""
    began = time.monotonic()
    while True:
        try:
            with contextlib.closing(imap_client(base, "alice")) as client, contextlib.closing(_smtp(base + 25)) as smtp:
                client.select("INBOX", readonly=True)
                smtp.mail("probe@example.org")
                if smtp.rcpt(f"alice@{DOMAIN}")[0] == 250:
                    return time.monotonic() - began
        except (OSError, imaplib.IMAP4.error, smtplib.SMTPException):
            pass
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not back after {seconds} s")
        time.sleep(0.05)


async def check(directory: Path) -> list[str]:
    """The findings of `restante admin check`."""
    link = await admin_link(read_config(None, directory, ()))
    try:
        jobs = Jobs(Calls(link))
        job = await jobs.wait((await jobs.check_store(digests=True)).job_id)
        return [finding.problem async for finding in jobs.findings(job.job_id)]
    finally:
        await link.close()


async def still_queued(directory: Path) -> int:
    """The number of waiting recipients of DEAD. Makes them due, so that the next round attempts them again."""
    link = await admin_link(read_config(None, directory, ()))
    try:
        queue, dead = Queue(Calls(link)), QueueSelector(destination=DEAD)
        counted = await queue.remove(dead, dry_run=True)
        await queue.retry(dead)
        return counted.recipients
    finally:
        await link.close()


def fill_queue(directory: Path, base: int, store: str, queued: int) -> None:
    """Put `queued` recipients of DEAD into the queue of a platform, which runs before and after, but not meanwhile."""
    with platform(directory, base, store), contextlib.closing(_smtp(base + 587)) as client:
        client.login(f"alice@{DOMAIN}", "alice-demo")
        client.sendmail(f"alice@{DOMAIN}", [f"someone@{DEAD}"], _message("0", f"alice@{DOMAIN}"))
    backend = open_backend(store or read_config(None, directory, ()).store_url)
    try:
        with backend.writer_engine.begin() as tx:
            like = tx.execute(
                select(func.max(transport_recipient.c.transport_id)).where(transport_recipient.c.destination == DEAD)
            ).scalar_one()
            sender = tx.execute(
                select(transport_recipient.c.sender).where(transport_recipient.c.transport_id == like)
            ).scalar_one()
            due_at = time.time_ns() // 1_000
            stuck.fill(tx, like, queued - 1, due_at=due_at, destination=stuck.one(DEAD), sender=stuck.by(sender))
    finally:
        backend.close()


def one_round(
    supervisor: subprocess.Popen[bytes],
    base: int,
    directory: Path,
    victim: str,
    ready_within: float = BACK_SECONDS,
    queued: int = 0,
) -> dict[str, object]:
    """Kill once under load, with `queued` recipients of DEAD in the queue. Raises AssertionError."""
    load = Load(base)
    threads = load.run(LOAD_SECONDS)
    moment = random.uniform(0.1, LOAD_SECONDS - 0.3)
    time.sleep(moment)
    kill(supervisor, victim)
    ready = wait_until_ready(base, 2 * ready_within)
    back = ready + wait_until_back(base, CONVERSATION_SECONDS)
    for thread in threads:
        thread.join(PATIENCE_SECONDS + 5)
        assert not thread.is_alive(), "a client hangs"
    places = {(name, folder): found(base, name, folder) for name in PEOPLE for folder in ("INBOX", "Archive")}
    wrong = violations(load.sent, places)
    assert not wrong, wrong[:10]
    findings = asyncio.run(check(directory))
    assert not findings, findings[:10]
    if queued:
        waiting = asyncio.run(still_queued(directory))
        assert waiting == queued, f"{waiting} recipients wait, of {queued}"
    assert ready <= ready_within, f"the core was ready only after {ready:.1f} s"
    answers: dict[str, int] = dict(Counter(message.answer for message in load.sent))
    times = {"killed_after": round(moment, 2), "ready_seconds": round(ready, 2), "back_seconds": round(back, 2)}
    return {"victim": victim, **times, **answers}


@contextlib.contextmanager
def running(store: str, queued: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """A fresh platform with `queued` recipients of DEAD: its supervisor, base port and directory."""
    base = free_base()
    with tempfile.TemporaryDirectory(prefix="restante-kill-") as scratch:
        directory = Path(scratch) / "data"
        if queued:
            fill_queue(directory, base, store, queued)
        with platform(directory, base, store) as supervisor:
            yield supervisor, base, directory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--victims", default=",".join(VICTIMS), help="the processes to kill, in turn; all of them: all")
    parser.add_argument("--ready-seconds", type=float, default=BACK_SECONDS, help="until a killed core must be ready")
    parser.add_argument("--queued", type=int, default=0, help="recipients of a dead domain that wait beside the load")
    parser.add_argument("--store", default="", help="URL of an empty PostgreSQL database; without it SQLite")
    parser.add_argument("--postgres", action="store_true", help="a PostgreSQL server of its own, for this run")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    victims = arguments.victims.split(",")
    if unknown := set(victims) - set(VICTIMS):
        parser.error(f"--victims: {', '.join(sorted(unknown))} is none of {', '.join(VICTIMS)}")
    with contextlib.ExitStack() as stack:
        store = arguments.store
        if arguments.postgres:
            store = PostgresServer(stack.enter_context(running_cluster())).create_database()
        supervisor, base, directory = stack.enter_context(running(store, arguments.queued))
        for number in range(1, arguments.rounds + 1):
            victim = victims[number % len(victims)]
            try:
                outcome = one_round(supervisor, base, directory, victim, arguments.ready_seconds, arguments.queued)
            except (AssertionError, TimeoutError) as problem:
                print(json.dumps({"round": number, "victim": victim, "problem": str(problem)}), flush=True)
                return 1
            print(json.dumps({"round": number, **outcome}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
