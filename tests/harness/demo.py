"""`restante up --demo` as tests start it: the whole platform, in a directory and on ports of its own."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

OFFSETS = {
    "mx": 25,
    "api": 51,
    "mtls": 52,
    "up": 90,
    "core": 91,
    "imap_health": 92,
    "pop3_health": 93,
    "smtp_health": 94,
    "relay_health": 95,
    "pop3": 110,
    "imap": 143,
    "submissions": 465,
    "submission": 587,
    "imaps": 993,
    "pop3s": 995,
}
"""Each port above the base."""

DOMAIN = "example.test"
START_SECONDS = 90.0
STOP_SECONDS = 40.0


def free_base() -> int:
    """A base port of which every port is free now."""
    for _ in range(200):
        base = random.randrange(20_000, 31_000, 10)
        with contextlib.ExitStack() as stack:
            try:
                for offset in OFFSETS.values():
                    probe = stack.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base
    raise RuntimeError("no free ports")


@dataclass
class Demo:
    """A running demo. Its people are alice, bob and carol, each with the password NAME-demo."""

    directory: Path
    base: int
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # settings such as RESTANTE_LIMITS__...
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def port(self, name: str) -> int:
        """A port by its name in OFFSETS."""
        return self.base + OFFSETS[name]

    @property
    def ca(self) -> Path:
        """The certificate to trust."""
        return self.directory / "ca.pem"

    @property
    def configuration(self) -> Path:
        """The configuration of all its processes, written at each start."""
        return self.directory / "restante.toml"

    @property
    def log(self) -> str:
        """What its processes have written."""
        return (self.directory.parent / f"{self.directory.name}.log").read_text(errors="replace")

    def address(self, name: str) -> str:
        """The address of one of the people."""
        return f"{name}@{DOMAIN}"

    def password(self, name: str) -> str:
        """The password of one of the people."""
        return f"{name}-demo"

    def tls(self) -> ssl.SSLContext:
        """A context that trusts it."""
        return ssl.create_default_context(cafile=str(self.ca))

    def children(self) -> dict[str, psutil.Process]:
        """The processes by name: core, imap, pop3, smtp, relay."""
        assert self.process is not None
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                arguments = child.cmdline()
                if "restante_cli" not in arguments:
                    continue  # on its way in or out
                words = arguments[arguments.index("restante_cli") + 1 :]
                found[words[1] if words[0] == "gateway" else words[0]] = child
        return found

    def ready(self) -> bool:
        """Whether every process can serve now."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port('up')}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def start(self) -> None:
        """Start it and wait until it is ready. Raises RuntimeError with what it said when it does not come up."""
        command = [sys.executable, "-m", "restante_cli", "up", "--demo", "--data", str(self.directory)]
        command += ["--base-port", str(self.base), *self.options]
        log = (self.directory.parent / f"{self.directory.name}.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("RESTANTE_")},
                    **self.environment,
                },
            )
        until = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"the demo did not come up:\n{self.log}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it as Ctrl-C or SIGTERM would, and give its exit status. Harmless to repeat."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()  # its children end with it
            self.process.wait()
            raise


@contextlib.contextmanager
def running_demo(
    directory: Path, *options: str, base: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Demo]:
    """A demo in a directory that is new or an earlier demo's, ended when this is left."""
    demo = Demo(directory, base if base is not None else free_base(), options, environment or {})
    demo.start()
    try:
        yield demo
    finally:
        demo.stop()
