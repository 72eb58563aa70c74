"""`make bench`: the platform and installed peers under the load generator, in one interleaved run.

    python -m tests.bench [--only smtp,fetch] [--alone] [--workloads FILE] [--load-generator DIR]

Starts `restante up` in a fresh directory with fifty accounts, writes a target file for it, and runs `suite.py` of the
load generator. Prints a JSON line for each measurement, then a table of medians. Peers take part when their servers
answer on the ports of their target files (the generator's README says how to start them). Postfix and Dovecot are
started for the run when they are installed and the user is root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil

from restante import errors
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest
from restante_cli.connect import admin_link
from restante_process.options import read_config

ROOT = Path(__file__).resolve().parents[2]
LOAD_GENERATOR = ROOT.parent / "shared" / "bench"
PEERS = ("dovecot-mdbox", "dovecot-maildir", "cyrus")
PEER_PROGRAMS = ("postfix", "dovecot", "doveadm")
USERS = 50
START_SECONDS = 90.0
TARGET = """\
name = "restante"
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
def platform(directory: Path, base: int, store: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """`restante up --demo` in a directory, ready, for the time of the context. `store`: URL of another database."""
    command = [sys.executable, "-m", "restante_cli", "up", "--demo", "--data", str(directory), "--base-port", str(base)]
    environment = os.environ | ({"RESTANTE_STORE__URL": store} if store else {})
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


def target_file(directory: Path, base: int, process: subprocess.Popen[bytes]) -> Path:
    """Write the load generator's target file for Restante, with the processes whose CPU counts."""
    pids = []
    for child in psutil.Process(process.pid).children():
        words = child.cmdline()
        if "core" in words or "gateway" in words:
            name = words[words.index("gateway") + 1] if "gateway" in words else "core"
            pids.append(f'"{name}={child.pid}"')
    path = directory.parent / "restante.toml"
    ports = {"smtp": base + 25, "imap": base + 143, "pop3": base + 110}
    path.write_text(TARGET.format(users=USERS, pids=", ".join(pids), **ports))
    return path


def answering(target: Path) -> bool:
    """Whether the server of a target file answers."""
    settings = tomllib.loads(target.read_text())
    try:
        with socket.create_connection((settings.get("host", "127.0.0.1"), settings["imap_port"]), timeout=2):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def postfix_and_dovecot(load_generator: Path) -> Iterator[None]:
    """Run both for the time of the context, if they are installed, not running yet, and the user is root."""
    script = load_generator / "peers" / "postfix_dovecot.sh"
    missing = [program for program in PEER_PROGRAMS if shutil.which(program) is None]
    problem = f"not installed ({', '.join(missing)})" if missing else "they need root" if os.geteuid() else ""
    if problem or answering(load_generator / "targets" / f"{PEERS[0]}.toml"):
        if problem:
            print(f"Postfix and Dovecot are not started: {problem}", file=sys.stderr)
        yield
        return
    # Background processes must not keep this process's output open.
    subprocess.run(["bash", str(script), "start"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["bash", str(script), "stop"], check=False, stdout=subprocess.DEVNULL)


def free_base() -> int:
    """A base port above which all ports of a demo are free."""
    for base in range(20_000, 40_000, 1_100):
        with contextlib.ExitStack() as stack:
            try:
                for port in (25, 51, 90, 91, 92, 93, 94, 95, 110, 143, 465, 587, 993, 995):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", base + port))
            except OSError:
                continue
            return base
    raise SystemExit("no free ports")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="groups or subcommands of the workloads, with commas")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--runs", default="3", help="runs of each workload")
    parser.add_argument("--workloads", type=Path, help="another workloads file")
    parser.add_argument("--load-generator", type=Path, default=LOAD_GENERATOR)
    arguments = parser.parse_args()
    suite = arguments.load_generator / "suite.py"
    if not suite.exists():
        raise SystemExit(f"the load generator is not at {arguments.load_generator}: --load-generator DIR says where")
    base = free_base()
    with tempfile.TemporaryDirectory(prefix="restante-bench-") as scratch:
        directory, out = Path(scratch) / "data", Path(scratch) / "results.jsonl"
        peers_run = contextlib.nullcontext() if arguments.alone else postfix_and_dovecot(arguments.load_generator)
        with peers_run, platform(directory, base) as process:
            asyncio.run(add_users(directory))
            targets = [target_file(directory, base, process)]
            if not arguments.alone:
                peers = [arguments.load_generator / "targets" / f"{name}.toml" for name in PEERS]
                found = [peer for peer in peers if answering(peer)]
                for peer in set(peers) - set(found):
                    print(f"{peer.stem} does not answer and is left out", file=sys.stderr)
                targets += found
            workloads = arguments.workloads or arguments.load_generator / "workloads.toml"
            command = [sys.executable, str(suite), "--targets", *map(str, targets), "--out", str(out)]
            command += ["--workloads", str(workloads), "--runs", arguments.runs]
            if arguments.only:
                command += ["--only", arguments.only]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(arguments.load_generator)})
        sys.stdout.write(out.read_text())
        subprocess.run([sys.executable, str(suite), "--wide", str(out)], check=True)


if __name__ == "__main__":
    main()
