"""The supervisor with small programs as children."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from restante_cli.supervisor import IGNORING_HANGUP, LEASH, Supervisor

CHILD = """
import os, signal, sys, time
from restante_cli.supervisor import hold_leash
name, log, drain = sys.argv[1], sys.argv[2], float(sys.argv[3])
def say(word):
    with open(log, "a") as file:
        file.write(f"{name} {word}\\n")
def end(*_):
    say("drains"); time.sleep(drain); say("ends"); sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if drain < 0 else end)
hold_leash()
say("starts")
while True:
    time.sleep(0.05)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The lines reported by the supervisor; its children run the program above."""
    program = tmp_path / "child.py"
    program.write_text(CHILD)
    spawn = asyncio.create_subprocess_exec

    async def own(*command: str, **others: Any) -> Any:
        at = command.index("restante_cli")
        assert command[at - 1] == "-m"
        return await spawn(*command[: at - 1], str(program), *command[at + 1 :], **others)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", own)
    return []


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


async def said(log: Path, line: str, times: int = 1) -> None:
    async with asyncio.timeout(20):
        while lines(log).count(line) < times:
            await asyncio.sleep(0.02)


async def test_gateways_drain_all_at_once_and_the_core_after_them(told: list[str], log: Path) -> None:
    supervisor = Supervisor(told.append, 5.0, extra_seconds=1.0)
    for name in ("core", "imap", "smtp", "relay"):
        await supervisor.start(name, [name, str(log), "0.4"], ends_last=name == "core")
    for name in ("core", "imap", "smtp", "relay"):
        await said(log, f"{name} starts")
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 4 * 0.4 + 1.0
    story = lines(log)[4:]
    assert set(story[:3]) == {"imap drains", "smtp drains", "relay drains"}
    assert story.index("core drains") > max(story.index(f"{name} ends") for name in ("imap", "smtp", "relay"))
    assert story[-1] == "core ends"
    assert told == []


async def test_one_that_dies_is_started_again_with_growing_pauses(told: list[str], log: Path) -> None:
    supervisor = Supervisor(told.append, 5.0, extra_seconds=1.0, steady_seconds=60.0)
    child = await supervisor.start("core", ["core", str(log), "0"])
    for times in (1, 2, 3):
        await said(log, "core starts", times)
        assert child.process is not None
        child.process.kill()
    await said(log, "core starts", 4)
    assert child.restarts == 3
    assert child.died.is_set()
    assert [line.split("; ")[1] for line in told] == [
        f"starting it again in {seconds} s" for seconds in ("0.2", "0.4", "0.8")
    ]
    assert "SIGKILL" in told[0]
    await supervisor.stop()


async def test_one_that_is_being_started_again_ends_too(told: list[str], log: Path) -> None:
    supervisor = Supervisor(told.append, 5.0, extra_seconds=1.0)
    child = await supervisor.start("core", ["core", str(log), "0"])
    await said(log, "core starts")
    assert child.process is not None
    child.process.kill()
    await child.died.wait()
    await supervisor.stop()
    assert child.process.returncode is not None
    assert lines(log) == ["core starts"]


async def test_one_that_does_not_end_in_time_is_killed(told: list[str], log: Path) -> None:
    supervisor = Supervisor(told.append, 0.2, extra_seconds=1.0)
    child = await supervisor.start("core", ["core", str(log), "-1"])
    await said(log, "core starts")
    await supervisor.stop()
    assert child.last_status == -signal.SIGKILL
    assert told == ["core did not end in time and was killed"]


async def test_children_drain_when_their_parent_is_gone(tmp_path: Path, log: Path) -> None:
    program = tmp_path / "child.py"
    program.write_text(CHILD)
    # A parent that holds the pipe and is killed, so that it cannot signal the child.
    parent = (
        "import subprocess, sys, time, os\n"
        f"subprocess.Popen([sys.executable, {str(program)!r}, 'core', {str(log)!r}, '0.1'], stdin=subprocess.PIPE,"
        f" env={{**os.environ, {LEASH!r}: '5'}})\n"
        "time.sleep(60)\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent)
    await said(log, "core starts")
    children = psutil.Process(process.pid).children()
    process.kill()
    await process.wait()
    await said(log, "core ends")
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


async def test_others_that_died_beside_the_first_wait_until_it_serves(log: Path, told: list[str]) -> None:
    serves = asyncio.Event()

    async def core_ready() -> bool:
        return serves.is_set()

    supervisor = Supervisor(told.append, 5.0, core_ready, extra_seconds=1.0, head_start_seconds=30.0)
    for name in ("core", "imap"):
        await supervisor.start(name, [name, str(log), "0"], ends_last=name == "core")
        await said(log, f"{name} starts")
    for child in supervisor.children:
        assert child.process is not None
        child.process.kill()
    await said(log, "core starts", 2)
    await asyncio.sleep(1.0)
    assert lines(log).count("imap starts") == 1
    serves.set()
    await said(log, "imap starts", 2)
    await supervisor.stop()


async def test_a_first_child_that_does_not_come_holds_nobody_up_for_long(log: Path, told: list[str]) -> None:
    async def core_ready() -> bool:
        return False

    supervisor = Supervisor(told.append, 5.0, core_ready, extra_seconds=1.0, head_start_seconds=0.5)
    for name in ("core", "imap"):
        await supervisor.start(name, [name, str(log), "0"], ends_last=name == "core")
        await said(log, f"{name} starts")
    assert supervisor.children[1].process is not None
    supervisor.children[1].process.kill()
    await said(log, "imap starts", 2)
    await supervisor.stop()


def test_a_child_begins_with_sighup_ignored_and_keeps_its_arguments() -> None:
    program = "import signal, sys; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, *sys.argv[1:])"
    command = [*IGNORING_HANGUP, sys.executable, "-c", program, "--data", "a b", "$HOME"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "True --data a b $HOME\n"
