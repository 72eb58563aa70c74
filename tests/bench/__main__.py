"""`make bench`: the platform and installed peers under the load generator, in one interleaved run.

    python -m tests.bench [--store postgresql] [--only smtp,fetch] [--alone] [--checked] [--workloads FILE]
                          [--load-generator DIR]

Starts `restante up` in a fresh directory with fifty accounts, writes a target file for it, and runs `suite.py` of the
load generator. Prints a JSON line for each measurement, then a table of medians. With `--store` the store lies in
PostgreSQL: `postgresql` starts a private server, a URL names an empty database. `--store sqlite,postgresql` runs a
platform on each store in one interleaved run. The CPU is that of the platform's processes, without the database's.
With `--checked` there is one more platform, which checks the mail by SPF, DKIM, ARC, DMARC, reverse DNS and lists. The
load generator's mail is not signed.

Peers take part when their servers answer on the ports of their target files (the generator's README says how to start
them). Postfix and Dovecot are started for the run when they are installed and the user is root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.bench.checking import checks
from tests.bench.platforms import add_users, free_base, platform, postgresql, target_file

ROOT = Path(__file__).resolve().parents[2]
LOAD_GENERATOR = ROOT.parent / "shared" / "bench"
PEERS = ("dovecot-mdbox", "dovecot-maildir", "cyrus")
PEER_PROGRAMS = ("postfix", "dovecot", "doveadm")


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


def stores(given: str) -> Iterator[tuple[str, str]]:
    """(name of the target, "sqlite", "postgresql" or a URL) of each platform to run."""
    for store in given.split(","):
        yield ("restante" if store == "sqlite" else "restante-postgresql"), store


@contextlib.contextmanager
def targets(given: str, scratch: Path, *, checked: bool = False) -> Iterator[list[Path]]:
    """The target files of platforms on these stores, which run for the time of the context.

    With `checked`, also that of one on SQLite that checks mail.
    """
    with contextlib.ExitStack() as running:
        # Databases first: gRPC, which `add_users` loads, does not like a process that forks.
        urls = [
            (
                name,
                running.enter_context(postgresql()) if store == "postgresql" else ("" if store == "sqlite" else store),
            )
            for name, store in stores(given)
        ]
        settings: dict[str, dict[str, str]] = {}
        if checked:
            urls.append(("restante-checked", ""))
            settings["restante-checked"] = running.enter_context(checks())
        files, base = [], 20_000
        for name, url in urls:
            base = free_base(base)
            directory = scratch / name / "data"
            directory.parent.mkdir()
            supervisor = running.enter_context(platform(directory, base, url, settings.get(name)))
            asyncio.run(add_users(directory))
            files.append(target_file(directory, base, supervisor, name))
            base += 1_100
        yield files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="sqlite", help="sqlite (default), postgresql, a URL, or several with commas")
    parser.add_argument("--only", help="groups or subcommands of the workloads, with commas")
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--checked", action="store_true", help="with a platform that checks mail")
    parser.add_argument("--runs", default="3", help="runs of each workload")
    parser.add_argument("--workloads", type=Path, help="another workloads file")
    parser.add_argument("--load-generator", type=Path, default=LOAD_GENERATOR)
    arguments = parser.parse_args()
    suite = arguments.load_generator / "suite.py"
    if not suite.exists():
        raise SystemExit(f"the load generator is not at {arguments.load_generator}: --load-generator DIR says where")
    with tempfile.TemporaryDirectory(prefix="restante-bench-") as scratch:
        out = Path(scratch) / "results.jsonl"
        peers_run = contextlib.nullcontext() if arguments.alone else postfix_and_dovecot(arguments.load_generator)
        with peers_run, targets(arguments.store, Path(scratch), checked=arguments.checked) as files:
            if not arguments.alone:
                peers = [arguments.load_generator / "targets" / f"{name}.toml" for name in PEERS]
                found = [peer for peer in peers if answering(peer)]
                for peer in set(peers) - set(found):
                    print(f"{peer.stem} does not answer and is left out", file=sys.stderr)
                files += found
            workloads = arguments.workloads or arguments.load_generator / "workloads.toml"
            command = [sys.executable, str(suite), "--targets", *map(str, files), "--out", str(out)]
            command += ["--workloads", str(workloads), "--runs", arguments.runs]
            if arguments.only:
                command += ["--only", arguments.only]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(arguments.load_generator)})
        sys.stdout.write(out.read_text())
        subprocess.run([sys.executable, str(suite), "--wide", str(out)], check=True)


if __name__ == "__main__":
    main()
