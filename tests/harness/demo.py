"""`restante up --demo` for tests: the whole platform, with a separate directory and separate ports."""

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

from restante_cli.processes import PORT_STEP

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
"""Each port, relative to the base port."""

DOMAIN = "example.test"
START_SECONDS = 90.0
STOP_SECONDS = 40.0


def free_base() -> int:
    """A base port for which all ports of OFFSETS are free now."""
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
    """A running demo. Its users are alice, bob and carol, each with the password NAME-demo."""

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
        """The configuration file of all its processes; each start writes it."""
        return self.directory / "restante.toml"

    @property
    def log(self) -> str:
        """The output of its processes."""
        return (self.directory.parent / f"{self.directory.name}.log").read_text(errors="replace")

    def address(self, name: str) -> str:
        """The address of a user."""
        return f"{name}@{DOMAIN}"

    def password(self, name: str) -> str:
        """The password of a user."""
        return f"{name}-demo"

    def tls(self) -> ssl.SSLContext:
        """A TLS context that trusts its certificate."""
        return ssl.create_default_context(cafile=str(self.ca))

    def children(self) -> dict[str, psutil.Process]:
        """The processes by name: core, imap, pop3, smtp, relay, and further ones such as imap-2."""
        assert self.process is not None
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                arguments = child.cmdline()
                if "restante_cli" not in arguments:
                    continue  # starting or ending
                words = arguments[arguments.index("restante_cli") + 1 :]
                kind = words[1] if words[0] == "gateway" else words[0]
                ports = [int(word.partition("=")[2]) for word in words if word.startswith(f"health.{kind}=")]
                first = self.base + OFFSETS.get(f"{kind}_health", OFFSETS["core"])
                number = 1 + (ports[0] - first) // PORT_STEP if ports else 1
                found[kind if number == 1 else f"{kind}-{number}"] = child
        return found

    def ready(self) -> bool:
        """Whether every process is ready now."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port('up')}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def start(self) -> None:
        """Start the demo and wait until it is ready. Raises RuntimeError with its output after a failed start."""
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
        """End the demo with a signal and return its exit status. A second call does nothing."""
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
    """A demo, for the time of the context, in a new directory or an earlier demo's."""
    demo = Demo(directory, base if base is not None else free_base(), options, environment or {})
    demo.start()
    try:
        yield demo
    finally:
        demo.stop()
