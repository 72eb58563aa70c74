"""The store's lock: one core process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from restante_server.db.errors import StoreLocked
from restante_server.db.lock import StoreLock

HOLDER = """
import sys
from pathlib import Path
from restante_server.db.lock import StoreLock
lock = StoreLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with StoreLock(tmp_path):
        with pytest.raises(StoreLocked, match=str(os.getpid())) as refused:
            StoreLock(tmp_path)
        assert refused.value.holder == os.getpid()
        assert str(tmp_path) in str(refused.value)


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    lock = StoreLock(tmp_path)
    lock.release()
    lock.release()
    StoreLock(tmp_path).release()


def test_only_its_owner_may_read_the_file_and_it_holds_the_process_id(tmp_path: Path) -> None:
    with StoreLock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_killed_process_holds_nothing_any_more(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(StoreLocked) as refused:
            StoreLock(tmp_path)
        assert refused.value.holder == child.pid
        child.kill()
        child.wait(10)
        StoreLock(tmp_path).release()


def test_a_directory_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        StoreLock(tmp_path / "nowhere")
