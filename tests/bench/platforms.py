"""The platform under a benchmark: `restante up --demo` with accounts for the load generator."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from restante import errors
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest
from restante_cli.connect import admin_link
from restante_process.options import read_config
from tests.harness.postgres import own_cluster

USERS = 50
START_SECONDS = 90.0
TARGET = """\
name = "{name}"
host = "127.0.0.1"
smtp_port = {smtp}
imap_port = {imap}
pop3_port = {pop3}
user = "u{{n:03d}}@bench.test"
password = "password{{n:03d}}"
users = {users}
server_pids = [{pids}]
"""


@contextlib.contextmanager
def platform(
    directory: Path, base: int, store: str = "", settings: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`restante up --demo` in a directory, ready, for the time of the context.

    `store`: URL of another database. `settings`: variables of the environment, such as RESTANTE_PROCESSES__IMAP.
    """
    command = [sys.executable, "-m", "restante_cli", "up", "--demo", "--data", str(directory), "--base-port", str(base)]
    environment = {**os.environ, **(settings or {})} | ({"RESTANTE_STORE__URL": store} if store else {})
    with open(directory.parent / "restante.log", "wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        try:
            assert process.stdout is not None
            limit = time.monotonic() + START_SECONDS
            while b"trust" not in process.stdout.readline():
                if process.poll() is not None or time.monotonic() > limit:
                    raise SystemExit(f"the platform did not start: see {log.name}")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


async def add_users(directory: Path) -> None:
    """Create the accounts of the load generator."""
    link = await admin_link(read_config(None, directory, ()))
    try:
        with contextlib.suppress(errors.DomainExists):
            domain = CreateDomainRequest(name="bench.test", request_id=secrets.token_bytes(16))
            await link.execute(methods.CREATE_DOMAIN, domain)
        for number in range(1, USERS + 1):
            account = CreateAccountRequest(
                address=f"u{number:03d}@bench.test",
                password=f"password{number:03d}",
                request_id=secrets.token_bytes(16),
            )
            await link.execute(methods.CREATE_ACCOUNT, account)
    finally:
        await link.close()


def processes(supervisor: subprocess.Popen[bytes]) -> list[tuple[str, int]]:
    """(kind, pid) of each core and gateway."""
    found = []
    for child in psutil.Process(supervisor.pid).children():
        words = child.cmdline()
        if "core" in words or "gateway" in words:
            found.append((words[words.index("gateway") + 1] if "gateway" in words else "core", child.pid))
    return found


def target_file(directory: Path, base: int, supervisor: subprocess.Popen[bytes], name: str = "restante") -> Path:
    """Write the load generator's target file for Restante, with the processes whose CPU counts."""
    pids = [f'"{kind}={pid}"' for kind, pid in processes(supervisor)]
    path = directory.parent / f"{name}.toml"
    ports = {"smtp": base + 25, "imap": base + 143, "pop3": base + 110}
    path.write_text(TARGET.format(name=name, users=USERS, pids=", ".join(pids), **ports))
    return path


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database in a private, durable PostgreSQL, for the time of the context."""
    with own_cluster({"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB"}) as cluster:
        yield cluster.maintenance.render_as_string(hide_password=False)


def free_base(above: int = 20_000) -> int:
    """A base port, not below `above`, for which all ports of a demo with two processes of a kind are free."""
    for base in range(above, 40_000, 1_100):
        with contextlib.ExitStack() as stack:
            try:
                for port in (25, 51, 61, *range(90, 96), *range(101, 106), 110, 143, 465, 587, 993, 995):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", base + port))
            except OSError:
                continue
            return base
    raise SystemExit("no free ports")
