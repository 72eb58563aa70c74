"""A real core in a separate process, reached by its socket. A test may end, kill and restart it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from restante import errors
from restante.link import CoreLink
from restante.target import ProcessIdentity, Target
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest, DeleteAccountRequest

START_SECONDS = 30.0
END_SECONDS = 20.0
SETTINGS = {
    "RESTANTE_CORE__API_PORT": "-1",
    "RESTANTE_HEALTH__CORE": "-1",
    "RESTANTE_TLS__AUTHENTICATION": "except-loopback",
    "RESTANTE_TRANSPORT__HOSTNAME": "mx.example.test",
    "RESTANTE_SESSIONS__HASH_MEMORY_KIB": "64",
    "RESTANTE_STORE__RESERVE_OCTETS": "1000000",
}


class CoreProcess:
    """A core on a store in `directory`. `environment` adds to SETTINGS."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory, self._environment = directory, environment
        self.log = directory.parent / "core.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the core and wait until it is ready."""
        command = [sys.executable, "-m", "restante_cli", "core", "--migrate", "--data", str(self.directory)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | SETTINGS | self._environment, stdout=log, stderr=log
            )
        until = time.monotonic() + START_SECONDS
        while b'"ready"' not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(self.log.read_text()[-2000:])
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the core, by default with SIGTERM, so that it drains. A second call does nothing."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            process.wait(END_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the core."""
        assert self.process is not None
        self.process.send_signal(number)

    @property
    def status(self) -> int | None:
        """The exit status; None while the core runs, negative for a signal."""
        return None if self.process is None else self.process.poll()

    @property
    def api_port(self) -> int:
        """The port of the API, from the core's output at its start."""
        ready = next(line for line in self.log.read_text().splitlines() if '"ready"' in line)
        return int(json.loads(ready)["api_port"])

    @property
    def socket(self) -> str:
        """The address of the core's socket."""
        elsewhere = self.directory / "core.address"
        path = elsewhere.read_text().strip() if elsewhere.exists() else str(self.directory / "core.sock")
        return f"unix:{path}"

    def kill(self) -> None:
        """End the core with SIGKILL: for the process the same as a power cut."""
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        """Kill the core and start it again."""
        self.kill()
        self.start()

    async def link(self, identity: str) -> CoreLink:
        """A link with a process identity."""
        secret = (self.directory / "secrets" / f"{identity}.secret").read_text().strip()
        return await CoreLink.connect(Target(self.socket, ProcessIdentity(identity, secret)))

    async def account(self, address: str, password: str, *, fresh: bool = False) -> None:
        """Create the account and its domain if they are missing. With `fresh`, replace the account by an empty one."""
        link = await self.link("admin")
        try:
            domain = CreateDomainRequest(name=address.partition("@")[2], request_id=secrets.token_bytes(16))
            with contextlib.suppress(errors.DomainExists):
                await link.execute(methods.CREATE_DOMAIN, domain)
            if fresh:
                with contextlib.suppress(errors.AccountNotFound):
                    gone = DeleteAccountRequest(address=address, request_id=secrets.token_bytes(16))
                    await link.execute(methods.DELETE_ACCOUNT, gone)
            wanted = CreateAccountRequest(address=address, password=password, request_id=secrets.token_bytes(16))
            with contextlib.suppress(errors.AddressExists):
                await link.execute(methods.CREATE_ACCOUNT, wanted)
        finally:
            await link.close()


@contextmanager
def running_core(directory: Path, **environment: str) -> Iterator[CoreProcess]:
    """A core on an empty store for the time of the context."""
    core = CoreProcess(directory, **environment)
    core.start()
    try:
        yield core
    finally:
        core.stop()
