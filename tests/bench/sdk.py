"""`make bench-sdk`: the cost of reading mail by each SDK, beside the bare generated stubs of the same language.

    python -m tests.bench.sdk [--languages go,rust] [--loads batch_get,execute,stream] [--rounds 5] [--seconds 3]

A language takes part by a file clients/LANGUAGE/bench.json, {"build": [[...], ...], "run": [...]}. The commands run
like those of its conformance.json, which also names their requirements. The arguments of the program are

    --target HOST:PORT --ca FILE --user U --password P --seconds N --mode sdk|bare --load batch_get|execute|stream

It prints one line of JSON: {"language", "mode", "load", "messages", "seconds", "cpu_seconds"}. `cpu_seconds` is its CPU
time during the reading (without the start). The user's Inbox has 1,000 messages of 4 KiB. These loads read flags, size
and summary, in both modes with the same amount in one message on the wire:

    batch_get   BatchGetMessages of 20 messages, one call after the other (bare: unary)
    execute     32 BatchGetMessages, each of one message, waiting together in the Execute stream; then the next 32
    stream      StreamMessages of all of them, with their octets

The modes run in turn, in rounds. Prints every measurement as a line of JSON, then a table of medians: CPU microseconds
a message in both modes, the difference, and messages a second by the SDK.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from restante.sync_client import SyncClient
from tests.conformance.languages import Language, RunnerFailed, languages
from tests.harness.demo import Demo, running_demo

LOADS = ("batch_get", "execute", "stream")
MODES = ("bare", "sdk")
MESSAGES = 1_000
CONTENT = (
    b"From: bob@example.test\r\nTo: alice@example.test\r\nSubject: To be read\r\n\r\n" + b"0123456789abcd\r\n" * 251
)

Key = tuple[str, str, str]  # language, load, mode


class Measured(NamedTuple):
    """One measurement."""

    cost: float  # CPU seconds a message
    rate: float  # messages a second


def taking_part(wanted: str) -> list[tuple[Language, list[str]]]:
    """The languages with a bench and an installed toolchain, built, each with its command."""
    found = []
    for language in languages():
        file = language.directory / "bench.json"
        if not file.exists() or (wanted and language.key not in wanted.split(",")):
            continue
        entry = json.loads(file.read_text(encoding="utf-8"))
        language = replace(language, build=entry.get("build", []), run=entry["run"])
        if reason := language.missing():
            print(f"{language.name}: skipped, {reason}", file=sys.stderr)
            continue
        language.made()
        found.append((language, [word.replace("{python}", sys.executable) for word in language.run]))
    return found


def fill(demo: Demo) -> None:
    """Put the messages into alice's Inbox."""
    with SyncClient.connect(
        f"localhost:{demo.port('api')}",
        root_certificates=demo.ca.read_bytes(),
        user=demo.address("alice"),
        password=demo.password("alice"),
    ) as client:
        for _ in range(MESSAGES):
            client.messages.append("INBOX", CONTENT)


def measure(language: Language, command: list[str], demo: Demo, mode: str, load: str, seconds: float) -> Measured:
    """Run one program and print its output. Raises RunnerFailed."""
    arguments = ["--target", f"localhost:{demo.port('api')}", "--ca", str(demo.ca), "--user", demo.address("alice")]
    arguments += ["--password", demo.password("alice"), "--seconds", f"{seconds:g}", "--mode", mode, "--load", load]
    done = subprocess.run(
        [*command, *arguments], cwd=language.directory, env=language.environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RunnerFailed(f"{language.name}, {mode} {load}: status {done.returncode}\n{done.stderr[-4_000:]}")
    print(done.stdout.strip(), flush=True)
    line = json.loads(done.stdout)
    return Measured(line["cpu_seconds"] / line["messages"], line["messages"] / line["seconds"])


def table(found: dict[Key, list[Measured]]) -> str:
    """One row for each language and load."""
    lines = [f"{'language':12}{'load':12}{'bare, us':>10}{'sdk, us':>10}{'added':>8}{'sdk, messages/s':>18}"]
    for language, load in dict.fromkeys(key[:2] for key in found):
        bare, sdk = (statistics.median(one.cost for one in found[language, load, mode]) for mode in MODES)
        rate = statistics.median(one.rate for one in found[language, load, "sdk"])
        lines.append(f"{language:12}{load:12}{bare * 1e6:10.1f}{sdk * 1e6:10.1f}{sdk / bare - 1:8.0%}{round(rate):18,}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.sdk", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--languages", default="", help="such as go,rust; default: all that are here")
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    arguments = parser.parse_args()
    try:
        taking = taking_part(arguments.languages)
        if not taking:
            parser.error("no language takes part")
        found: dict[Key, list[Measured]] = defaultdict(list)
        with (
            tempfile.TemporaryDirectory(prefix="restante-bench-") as scratch,
            running_demo(Path(scratch) / "demo") as demo,
        ):
            fill(demo)
            for _ in range(arguments.rounds):
                for language, command in taking:
                    for load in arguments.loads.split(","):
                        for mode in MODES:
                            one = measure(language, command, demo, mode, load, arguments.seconds)
                            found[language.name, load, mode].append(one)
    except RunnerFailed as problem:
        print(problem, file=sys.stderr)
        return 1
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
