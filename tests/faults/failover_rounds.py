"""Kill that one of two cores which the gateways use, under load of every protocol, and count every message afterwards.

    python -m tests.faults.failover_rounds [--rounds 20] [--seed N]

Two cores use one PostgreSQL store; the SMTP, IMAP and POP3 gateways and a native client have the addresses of both.
Every round kills the core in use, or every fourth time ends it with SIGTERM, and starts it again. The gateways reach
the first core by its socket, and the second by mutual TLS. Each message answered 250, OK or without an error must be
found exactly once for each recipient; a refused one, never. No session may end: each command gets success or the
protocol's temporary error within a bounded time, and a session in IDLE since before the first round learns of new mail
after each round. Tokens live half a minute here, so that sessions are renewed at both cores. Prints a JSON line a
round; exits 1 at the first violation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import signal
import smtplib
import socket
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

from restante import errors
from restante.calls import Calls
from restante.client import Client
from restante.jobs import Jobs
from restante.target import Target
from restante.v1 import methods
from restante.v1.message_pb2 import AppendMessageRequest
from tests.faults.kill_rounds import DOMAIN, HEADER, PATIENCE_SECONDS, PEOPLE, Load, found, imap_client, violations
from tests.faults.wire import PORTS, Wire, deliver, message
from tests.harness.certificates import pair_maker
from tests.harness.core_process import CoreProcess
from tests.harness.demo import free_base
from tests.harness.postgres import PostgresServer, running_cluster

GATEWAYS = {"imap": 92, "pop3": 93, "smtp": 94}  # with the offset of their health pages
MUTUAL_TLS = 2  # the number of the core that gateways reach by mutual TLS
LOAD_SECONDS = 8.0
ANSWER_SECONDS = 12.0  # for any command during the loss of a core; operations wait 5 of these for a core
TOLD_SECONDS = 10.0  # from a delivery to its announcement in IDLE
READY_SECONDS = 20.0
EVERY_FOURTH = 4  # each fourth core is ended, not killed
LARGE_OCTETS = 2_500_000  # more than a gateway buffers to restart an upload


@dataclass
class House:
    """Two cores, their gateways, and all ports."""

    base: int
    cores: tuple[CoreProcess, CoreProcess]
    addresses: tuple[str, str]  # of the cores, for gateways
    api_ports: tuple[int, int]
    scratch: Path  # certificates, and a log of each gateway
    gateways: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def wire(self, protocol: str) -> Wire:
        """A connection after its greeting."""
        made = Wire(self.base + PORTS[protocol], PATIENCE_SECONDS)
        assert made.line()[:1] in b"2*+"
        return made

    def metrics(self, gateway: str) -> str:
        """The metrics of a gateway."""
        url = f"http://127.0.0.1:{self.base + GATEWAYS[gateway]}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            text: str = page.read().decode()
            return text

    def used_by(self, gateway: str) -> int:
        """The index of the core that a gateway uses."""
        address = re.search(r'^restante_gateway_core\{core="([^"]+)".*\} 1', self.metrics(gateway), re.MULTILINE)
        assert address is not None
        return self.addresses.index(address[1])

    def moves(self) -> int:
        """The number of moves of all gateways so far."""
        found = [
            re.search(r"^restante_gateway_core_moves_total\{.*\} (\d+)", self.metrics(gateway), re.MULTILINE)
            for gateway in GATEWAYS
        ]
        return sum(int(match[1]) for match in found if match is not None)

    def wait_until_ready(self, gateway: str) -> None:
        """Wait until a gateway is ready. Raises TimeoutError."""
        until = time.monotonic() + READY_SECONDS
        while True:
            with contextlib.suppress(OSError):
                url = f"http://127.0.0.1:{self.base + GATEWAYS[gateway]}/readyz"
                with urllib.request.urlopen(url, timeout=5):
                    return
            if time.monotonic() > until:
                log = (self.scratch / f"{gateway}.log").read_text()
                raise TimeoutError(f"the {gateway} gateway is not ready: {log[-1500:]}")
            time.sleep(0.1)

    def check(self) -> list[str]:
        """The findings of the store's check."""

        async def run() -> list[str]:
            link = await self.cores[0].link("admin")
            try:
                jobs = Jobs(Calls(link))
                job = await jobs.wait((await jobs.check_store(digests=True)).job_id)
                return [finding.problem async for finding in jobs.findings(job.job_id)]
            finally:
                await link.close()

        return asyncio.run(run())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listener(port: int, more: str = "") -> str:
    return f'{{host = "127.0.0.1", port = {port}, tls = "none"{more}}}'


def _role(name: str) -> str:
    return f', role = "{name}"'


@contextlib.contextmanager
def running(store: str) -> Iterator[House]:
    """Two cores and their gateways on an empty PostgreSQL database."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="restante-two-")))
        base = free_base()
        make_pair = pair_maker(scratch)
        pair = make_pair("server", "localhost")
        proofs = {name: make_pair(name, f"restante-{name}") for name in GATEWAYS}
        (scratch / "clients.pem").write_bytes(b"".join(proof.certificate.read_bytes() for proof in proofs.values()))
        (scratch / "contents").mkdir()
        *ports, mutual = _free_port(), _free_port(), _free_port()
        cores = tuple(
            CoreProcess(
                scratch / str(number) / "data",
                RESTANTE_STORE__URL=store,
                RESTANTE_STORE__CONTENTS=str(scratch / "contents"),
                RESTANTE_CORE__API_HOST="127.0.0.1",
                RESTANTE_CORE__API_PORT=str(port),
                RESTANTE_TLS__CERTIFICATES=f'[{{certificate = "{pair.certificate}", key = "{pair.key}"}}]',
                RESTANTE_SESSIONS__TOKEN_MINUTES="0.5",
                **({"RESTANTE_CORE__GATEWAY_PORT": str(mutual)} if number == MUTUAL_TLS else {}),
                RESTANTE_TLS__CLIENT_CA=str(scratch / "clients.pem"),
            )
            for number, port in enumerate(ports, start=1)
        )
        for core in cores:
            core.directory.mkdir(parents=True)
            core.start()
            stack.callback(core.kill)
        addresses = (cores[0].socket, f"127.0.0.1:{mutual}")
        house = House(base, (cores[0], cores[1]), addresses, (ports[0], ports[1]), scratch)
        asyncio.run(_people(house))
        environment = os.environ | {
            "RESTANTE_CORE_ADDRESSES": json.dumps(addresses),
            "RESTANTE_TLS__CLIENT_CA": str(pair.certificate),
            "RESTANTE_TLS__AUTHENTICATION": "except-loopback",
            "RESTANTE_TRANSPORT__HOSTNAME": "mx.example.test",
            "RESTANTE_IMAP__LISTENERS": f"{{imap = {_listener(base + PORTS['imap'])}}}",
            "RESTANTE_POP3__LISTENERS": f"{{pop3 = {_listener(base + PORTS['pop3'])}}}",
            "RESTANTE_SMTP__LISTENERS": f"{{mx = {_listener(base + PORTS['smtp'], _role('mx'))}, "
            f"submission = {_listener(base + PORTS['submission'], _role('submission'))}}}",
            **{f"RESTANTE_HEALTH__{name.upper()}": str(base + offset) for name, offset in GATEWAYS.items()},
        }
        for name in GATEWAYS:
            log = stack.enter_context((scratch / f"{name}.log").open("wb"))
            command = [sys.executable, "-m", "restante_cli", "gateway", name, "--data", str(scratch / "gateways")]
            proof = proofs[name]
            own = f'[{{certificate = "{proof.certificate}", key = "{proof.key}"}}]'
            house.gateways[name] = subprocess.Popen(
                command, env=environment | {"RESTANTE_TLS__CERTIFICATES": own}, stdout=log, stderr=log
            )
            stack.callback(_end, house.gateways[name])
        for name in GATEWAYS:
            house.wait_until_ready(name)
        yield house


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(20)


async def _people(house: House) -> None:
    for name in PEOPLE:
        await house.cores[0].account(f"{name}@{DOMAIN}", f"{name}-demo")


class Sessions(Load):
    """The load, with sessions that must outlive the core."""

    def __init__(self, house: House) -> None:
        super().__init__(house.base)
        self._house = house
        self.dropped: list[str] = []  # sessions that ended
        self.temporary: Counter[str] = Counter()  # answers by the protocol's temporary error
        self.longest = 0.0  # seconds, of all commands
        self.commands: Counter[str] = Counter()

    def run(self, seconds: float) -> list[threading.Thread]:
        threads = super().run(seconds)
        work = [self._imap_session, self._pop3_session, self._pop3_logins, self._large, self._api]
        for each in work:
            thread = threading.Thread(target=self._once, args=(each,), daemon=True)
            thread.start()
            threads.append(thread)
        return threads

    def _again(self, work: Callable[[], None]) -> None:
        """Repeat `work` until the end. No connection of the load may be lost either."""
        while not self.stop.is_set():
            self._once(work)

    def _once(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported and fails the round
            self.dropped.append(f"{work.__name__}: {type(error).__name__}: {error}")
            time.sleep(0.1)

    def _answered(self, protocol: str, answer: bytes, began: float, good: bytes, temporary: bytes) -> None:
        self.commands[protocol] += 1
        self.longest = max(self.longest, time.monotonic() - began)
        if temporary in answer:
            self.temporary[protocol] += 1
        elif good not in answer:
            raise AssertionError(f"{protocol}: {answer!r}")

    def _imap_session(self) -> None:
        """Send commands in one session until the end."""
        with self._house.wire("imap") as wire:
            for command in (f"LOGIN alice@{DOMAIN} alice-demo", "SELECT INBOX"):
                assert b"OK" in wire.imap(command.encode())[-1]
            while not self.stop.is_set():
                for command in ("NOOP", "STATUS Archive (MESSAGES)", "UID FETCH 1:* (FLAGS)", "FETCH * (BODY.PEEK[])"):
                    began = time.monotonic()
                    lines = wire.imap(command.encode())
                    if lines and lines[-1].startswith(b"x BAD"):  # `*` of an empty folder
                        continue
                    self._answered("imap", lines[-1] if lines else b"", began, b"x OK", b"[UNAVAILABLE]")

    def _pop3_session(self) -> None:
        """Retrieve messages in one session until the end, then QUIT."""
        with self._house.wire("pop3") as wire:
            assert wire.pop3(f"USER bob@{DOMAIN}".encode()).startswith(b"+OK")
            assert wire.pop3(b"PASS bob-demo").startswith(b"+OK")
            count = int(wire.pop3(b"STAT").split()[1])
            while not self.stop.is_set():
                began = time.monotonic()
                self._answered("pop3", wire.pop3(b"NOOP"), began, b"+OK", b"[SYS/TEMP]")
                for number in range(1, min(count, 20) + 1):
                    began = time.monotonic()
                    answer = wire.pop3(f"RETR {number}".encode())
                    self._answered("pop3", answer, began, b"+OK", b"[SYS/TEMP]")
                    while answer.startswith(b"+OK") and (line := wire.line()) != b".\r\n":
                        assert line, "the connection ended in the midst of a message"
                time.sleep(0.05)
            assert wire.pop3(b"QUIT").startswith(b"+OK")

    def _pop3_logins(self) -> None:
        """Open and close maildrops: none may stay locked by a call whose answer was lost."""
        while not self.stop.is_set():
            with self._house.wire("pop3") as wire:
                assert wire.pop3(f"USER carol@{DOMAIN}".encode()).startswith(b"+OK")
                began = time.monotonic()
                answer = wire.pop3(b"PASS carol-demo")
                self._answered("pop3 login", answer, began, b"+OK", b"[SYS/TEMP]")
                assert wire.pop3(b"QUIT").startswith(b"+OK")
            time.sleep(0.05)

    def _large(self) -> None:
        """Append messages too large to be sent again: each is accepted or refused, and the session continues."""
        with contextlib.closing(imap_client(self.base, "alice")) as client:
            while not self.stop.is_set():
                id_ = secrets.token_hex(8)
                octets = f"From: alice\r\n{HEADER}: {id_}\r\n\r\n".encode() + b"y" * 70 + b"\r\n"
                kind, _ = client.append("Archive", "", "", octets + (b"z" * 70 + b"\r\n") * (LARGE_OCTETS // 72))
                self._note(id_, ("alice",), "accepted" if kind == "OK" else "refused", "Archive")
                time.sleep(0.3)

    def _api(self) -> None:
        asyncio.run(self._append_by_api())

    async def _append_by_api(self) -> None:
        roots = (self._house.scratch / "server.pem").read_bytes()
        targets = [Target(f"127.0.0.1:{port}", root_certificates=roots) for port in self._house.api_ports]
        async with Client.connect(targets, user=f"bob@{DOMAIN}", password="bob-demo") as client:
            while not self.stop.is_set():
                id_, began = secrets.token_hex(8), time.monotonic()
                content = f"From: bob\r\n{HEADER}: {id_}\r\n\r\nby the API\r\n".encode()
                request = AppendMessageRequest(path=["Archive"], content=content)
                try:
                    await client.execute(methods.APPEND_MESSAGE, request)
                except errors.RestanteError as error:
                    self.temporary["api"] += 1
                    self._note(id_, ("bob",), "lost", "Archive")
                    if not isinstance(error, errors.DeadlineExceeded):
                        raise
                else:
                    self._note(id_, ("bob",), "accepted", "Archive")
                self.commands["api"] += 1
                self.longest = max(self.longest, time.monotonic() - began)


class Idler:
    """A session in IDLE from before the first round to the end."""

    def __init__(self, house: House) -> None:
        self._wire = house.wire("imap")
        assert b"OK" in self._wire.imap(f"LOGIN carol@{DOMAIN} carol-demo".encode())[-1]
        assert b"OK" in self._wire.imap(b"SELECT INBOX")[-1]
        assert self._wire.imap(b"IDLE")[-1].startswith(b"+ ")
        self._house = house

    def is_told_within(self, seconds: float) -> float:
        """Deliver a message, and return the seconds until the client in IDLE learns of it. Raises AssertionError."""
        self._wire.socket.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while self._next_line():
                pass
        with self._house.wire("smtp") as smtp:
            assert smtp.smtp(b"EHLO client.example").startswith(b"250")
            reply = deliver(smtp, "carol", octets=message("for the idle"))
            assert reply.startswith(b"250"), reply
        began = time.monotonic()
        self._wire.socket.settimeout(seconds)
        while b"EXISTS" not in self._next_line():
            pass
        return time.monotonic() - began

    def _next_line(self) -> bytes:
        """The next line. Raises TimeoutError, and AssertionError when the session has ended."""
        line = b""
        while not line.endswith(b"\n"):
            octet = self._wire.socket.recv(1)
            assert octet, "the idle session has ended"
            line += octet
        assert not line.startswith(b"* BYE"), line
        return line

    def close(self) -> None:
        """End IDLE and close the connection."""
        self._wire.socket.settimeout(PATIENCE_SECONDS)
        self._wire.send(b"DONE\r\n")
        lines = self._wire.until(b"x")
        assert lines and lines[-1].startswith(b"x OK"), lines
        self._wire.socket.close()


def one_round(house: House, idler: Idler, how: signal.Signals) -> dict[str, object]:
    """Lose the core in use once, under load. Raises AssertionError, TimeoutError."""
    _prepare(house)
    before, victim = house.moves(), house.used_by("smtp")
    sessions = Sessions(house)
    threads = sessions.run(LOAD_SECONDS)
    moment = random.uniform(1.0, LOAD_SECONDS / 2)
    time.sleep(moment)
    house.cores[victim].stop(how)
    time.sleep(0.5)
    house.cores[victim].start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS + LOAD_SECONDS)
        assert not thread.is_alive(), "a client hangs"
    assert not sessions.dropped, sessions.dropped[:5]
    assert sessions.longest <= ANSWER_SECONDS, f"an answer took {sessions.longest:.1f} s"
    for gateway in GATEWAYS:
        house.wait_until_ready(gateway)
        assert house.gateways[gateway].poll() is None, f"the {gateway} gateway has ended"
    assert house.moves() > before, "no gateway has moved"
    told = idler.is_told_within(TOLD_SECONDS)
    places = {(name, folder): found(house.base, name, folder) for name in PEOPLE for folder in ("INBOX", "Archive")}
    wrong = violations(sessions.sent, places)
    assert not wrong, wrong[:10]
    lost = [sent.id for sent in sessions.sent if sent.answer == "lost"]
    assert not lost, f"{len(lost)} answers never came"
    findings = house.check()
    assert not findings, findings[:10]
    answers: dict[str, object] = dict(Counter(sent.answer for sent in sessions.sent))
    return {
        "core": victim + 1,
        "how": how.name,
        "after": round(moment, 2),
        "longest_answer": round(sessions.longest, 2),
        "idle_told": round(told, 2),
        **answers,
        "commands": dict(sessions.commands),
        "temporary": dict(sessions.temporary),
    }


def _prepare(house: House) -> None:
    """Create the folders of the load, and a few messages for POP3."""
    for name in PEOPLE:
        with contextlib.closing(imap_client(house.base, name)) as client:
            client.create("Archive")
    with contextlib.closing(smtplib.SMTP("127.0.0.1", house.base + PORTS["smtp"], timeout=PATIENCE_SECONDS)) as client:
        for size in (100, 300_000, 1_000_000):
            client.sendmail("someone@example.org", [f"bob@{DOMAIN}"], message("to retrieve", size))


def manner(number: int) -> signal.Signals:
    """The signal that ends the core in a round: SIGKILL in most."""
    return signal.SIGTERM if number % EVERY_FOURTH == 0 else signal.SIGKILL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--store", default="", help="URL of an empty PostgreSQL database; without it, a private server")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with contextlib.ExitStack() as stack:
        store = arguments.store or PostgresServer(stack.enter_context(running_cluster())).create_database()
        house = stack.enter_context(running(store))
        idler = Idler(house)
        for number in range(1, arguments.rounds + 1):
            try:
                outcome = one_round(house, idler, manner(number))
            except (AssertionError, TimeoutError, OSError) as problem:
                print(json.dumps({"round": number, "problem": f"{type(problem).__name__}: {problem}"}), flush=True)
                return 1
            print(json.dumps({"round": number, **outcome}), flush=True)
        idler.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
