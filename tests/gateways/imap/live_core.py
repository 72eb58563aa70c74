"""A real core as a process of its own, for one test module."""

from __future__ import annotations

import os
import secrets
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
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest, DeleteAccountRequest, GetAccountRequest

SETTINGS = {
    "RESTANTE_CORE__API_PORT": "-1",
    "RESTANTE_HEALTH__CORE": "-1",
    "RESTANTE_TLS__AUTHENTICATION": "except-loopback",
    "RESTANTE_SESSIONS__HASH_MEMORY_KIB": "64",
    "RESTANTE_LIMITS__MAX_MESSAGE_OCTETS": "600000",
}


class LiveCore:
    """A running core, reached by its socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    async def link(self, identity: str) -> CoreLink:
        """A link of a process identity."""
        elsewhere = self.directory / "core.address"
        socket = elsewhere.read_text().strip() if elsewhere.exists() else str(self.directory / "core.sock")
        secret = (self.directory / "secrets" / f"{identity}.secret").read_text().strip()
        return await CoreLink.connect(Target(f"unix:{socket}", ProcessIdentity(identity, secret)))

    async def fresh_account(self, address: str, password: str) -> None:
        """Make an account anew, with nothing in its mailbox."""
        link = await self.link("admin")
        try:
            try:
                domain = CreateDomainRequest(name=address.partition("@")[2], request_id=secrets.token_bytes(16))
                await link.execute(methods.CREATE_DOMAIN, domain)
            except errors.DomainExists:
                pass
            try:
                await link.execute(methods.GET_ACCOUNT, GetAccountRequest(address=address))
                await link.execute(methods.DELETE_ACCOUNT, DeleteAccountRequest(address=address))
            except errors.AccountNotFound:
                pass
            wanted = CreateAccountRequest(address=address, password=password, request_id=secrets.token_bytes(16))
            await link.execute(methods.CREATE_ACCOUNT, wanted)
        finally:
            await link.close()

    def start(self) -> None:
        """Start the process and wait until it serves."""
        command = [sys.executable, "-m", "restante", "core", "--migrate", "--data", str(self.directory)]
        log = self.directory.parent / "core.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, env=os.environ | SETTINGS, stdout=output, stderr=output)
        until = time.monotonic() + 30
        while b'"ready"' not in log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text()[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def restart(self) -> None:
        """Kill the process and start it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
        self.start()


@contextmanager
def live_core(directory: Path) -> Iterator[LiveCore]:
    """Start a core on an empty store in `directory`, and end it."""
    core = LiveCore(directory)
    core.start()
    try:
        yield core
    finally:
        core.stop()
