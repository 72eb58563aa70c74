"""A storm of connections on the API's port while its certificate changes: `python -m tests.faults.connection_storm`.

Each round opens a thousand TCP connections to a real core at once, begins a TLS handshake on some of them, and closes
them at once. Meanwhile it replaces the certificate's files by a good pair or a bad one. The core must stay alive, serve
the API by TLS with the newest good certificate, and serve the gateways' socket during the rounds. Prints JSON; the exit
code is 1 after any failure. `test_connection_storm.py` has a short form.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc

from restante.target import Target
from restante.v1.session_pb2 import GetMechanismsRequest
from restante.v1.session_pb2_grpc import SessionServiceStub
from restante_process.tls import CertificateFiles
from tests.harness.certificates import pair_maker
from tests.harness.core_process import CoreProcess, running_core

CONNECTIONS = 1_000
ROUNDS = 100
HELLO_EVERY = 5  # one connection of this number begins a handshake
SERVED_SECONDS = 15.0


@dataclass
class Outcome:
    """The counts of a storm."""

    rounds: int = 0
    opened: int = 0
    replaced: int = 0  # good pairs put in place
    served: int = 0  # answered API calls by TLS, between rounds
    by_socket: int = 0  # answered calls on the gateways' socket, during rounds
    slowest_by_socket_seconds: float = 0.0
    problem: str = ""


class Storm:
    """The storm on one core. Each round replaces the served `files` by the next pair, or by a bad certificate."""

    def __init__(self, directory: Path, connections: int = CONNECTIONS) -> None:
        make, self.outcome = pair_maker(directory), Outcome()
        self._connections = connections
        # Each pair has a different subject, because a client finds the issuer by its subject.
        self._pairs = [make(f"pair{number}", f"pair{number}.example.test", "localhost") for number in range(5)]
        self.files = CertificateFiles(directory / "served.pem", directory / "served-key.pem")
        self._put(self._pairs[-1])
        self._hello = _client_hello()

    @property
    def environment(self) -> dict[str, str]:
        """The core's settings as environment variables."""
        pair = f'[{{certificate = "{self.files.certificate}", key = "{self.files.key}"}}]'
        return {"RESTANTE_TLS__CERTIFICATES": pair, "RESTANTE_CORE__API_PORT": "0"}

    async def blow(self, core: CoreProcess, rounds: int) -> Outcome:
        """Run all rounds, or as many as the core survives."""
        port = core.api_port
        try:
            for number in range(rounds):
                calling = asyncio.create_task(self._call_by_socket(core))
                await asyncio.to_thread(self._round, core, port, number)
                await calling
                self.outcome.rounds += 1
                if core.status is not None:
                    raise RuntimeError(f"the core ended with status {core.status}")
                if number % 10 == 9 or number == rounds - 1:
                    await self._call_by_tls(port)
        except (RuntimeError, grpc.RpcError, OSError) as error:
            self.outcome.problem = f"{type(error).__name__}: {error}"
            if core.status is not None:
                self.outcome.problem += f"; the core ended with status {core.status}"
        return self.outcome

    def _round(self, core: CoreProcess, port: int, number: int) -> None:
        opened = list(self._open(port))
        self._replace(number)
        core.signal(signal.SIGHUP)
        for at, connection in enumerate(opened):
            if at % HELLO_EVERY == 0:
                try:
                    connection.send(self._hello)
                except OSError:
                    pass  # refused, as it must be above the limits
        for connection in opened:
            connection.close()
        self.outcome.opened += len(opened)

    def _open(self, port: int) -> Iterator[socket.socket]:
        for _ in range(self._connections):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", port))
            yield connection

    def _replace(self, number: int) -> None:
        if number % 5 == 4:
            self.files.certificate.write_text("not a certificate")
            return
        self._put(self._pairs[number % (len(self._pairs) - 1)])

    def _put(self, pair: CertificateFiles) -> None:
        self.files.key.write_bytes(pair.key.read_bytes())
        self.files.certificate.write_bytes(pair.certificate.read_bytes())
        self.outcome.replaced += 1

    async def _call_by_socket(self, core: CoreProcess) -> None:
        began = time.monotonic()
        async with Target(core.socket).open_channel() as channel:
            await SessionServiceStub(channel).GetMechanisms(GetMechanismsRequest(), timeout=SERVED_SECONDS)
        self.outcome.by_socket += 1
        took = time.monotonic() - began
        self.outcome.slowest_by_socket_seconds = max(self.outcome.slowest_by_socket_seconds, round(took, 3))

    async def _call_by_tls(self, port: int) -> None:
        """Make a call by TLS that trusts every pair, whichever the core has read last."""
        roots = b"".join(pair.certificate.read_bytes() for pair in self._pairs)
        target = Target(f"localhost:{port}", root_certificates=roots)
        async with target.open_channel() as channel:
            await SessionServiceStub(channel).GetMechanisms(
                GetMechanismsRequest(), timeout=SERVED_SECONDS, wait_for_ready=True
            )
        self.outcome.served += 1


def _client_hello() -> bytes:
    """The first octets of a TLS handshake."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass  # the client waits for the server's answer
    return outgoing.read()


def run(directory: Path, rounds: int, connections: int = CONNECTIONS) -> Outcome:
    """Run a storm on a new core in `directory`, which must be empty."""
    storm = Storm(directory, connections)
    data = directory / "data"
    data.mkdir(mode=0o700)
    with running_core(data, **storm.environment) as core:
        return asyncio.run(storm.blow(core, rounds))


def main() -> int:
    """Run the long form."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--connections", type=int, default=CONNECTIONS)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        outcome = run(Path(directory), given.rounds, given.connections)
    print(json.dumps(asdict(outcome), indent=2))
    return 1 if outcome.problem else 0


if __name__ == "__main__":
    sys.exit(main())
