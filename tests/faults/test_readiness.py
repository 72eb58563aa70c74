"""Readiness follows each fault and its end within seconds, with the reason; liveness does not change."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from restante.target import ProcessIdentity
from restante.v1.admin_pb2 import GetStatisticsRequest
from restante.v1.batch_pb2 import ExecuteRequest, Operation
from restante.v1.batch_pb2_grpc import BatchServiceStub
from tests.harness.core_process import SETTINGS, CoreProcess, running_core
from tests.harness.postgres import own_cluster

pytestmark = pytest.mark.faults

WITHIN_SECONDS = 8.0  # a check takes up to two seconds, one second is between checks; tests share their machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body; status 0 when the port refuses."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def becomes(port: int, status: int, *, reason: str = "") -> None:
    """Wait until /readyz has `status` and `reason`; meanwhile /healthz must stay 200."""
    until = time.monotonic() + WITHIN_SECONDS
    while True:
        found = ask(port, "/readyz")
        assert ask(port, "/healthz") == (200, "ok\n")
        if found[0] == status and reason in found[1]:
            return
        assert time.monotonic() < until, (status, reason, found)
        time.sleep(0.1)


@contextlib.contextmanager
def gateway(name: str, directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway of the core in `directory`, without TLS, on any free port; `port` is its health port."""
    role = ', role = "mx"' if name == "smtp" else ""
    listeners = f'{{ plain = {{ host = "127.0.0.1", port = 0, tls = "none"{role} }} }}'
    command = [sys.executable, "-m", "restante_cli", "gateway", name, "--data", str(directory)]
    command += ["--set", f"{name}.listeners={listeners}", "--set", f"health.{name}={port}"]
    process = subprocess.Popen(command, env=os.environ | SETTINGS, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while ask(port, "/healthz")[0] != 200:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def told_at_once(directory: Path, said: str) -> None:
    """Check that the administrator's command fails with one line, long before its deadline."""
    command = [sys.executable, "-m", "restante_cli", "admin", "--data", str(directory), "stats"]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1
    assert said in failed.stderr


def test_a_core_whose_database_hangs_ends_within_its_time(tmp_path: Path) -> None:
    with own_cluster() as cluster:
        url = cluster.maintenance.set(drivername="postgresql").render_as_string()
        with running_core(tmp_path / "data", RESTANTE_STORE__URL=url, RESTANTE_CORE__DRAIN_SECONDS="3.0") as core:
            cluster.signal(signal.SIGSTOP)
            try:
                time.sleep(2.0)  # the core's own calls now get no answer
                began = time.monotonic()
                core.stop()
                assert time.monotonic() - began < 12
            finally:
                cluster.signal(signal.SIGCONT)
    assert "Traceback" not in core.log.read_text()
    assert '"exception"' not in core.log.read_text()


def test_a_gateway_is_ready_while_its_core_is(tmp_path: Path) -> None:
    port = free_port()
    with running_core(tmp_path / "data") as core, gateway("imap", tmp_path / "data", port) as process:
        becomes(port, 200)
        core.kill()
        becomes(port, 503, reason="core: the core at unix:")
        told_at_once(tmp_path / "data", "cannot be reached. Start it with `restante up --data")
        core.start()
        becomes(port, 200)
        assert core.process is not None
        core.process.send_signal(signal.SIGSTOP)
        try:
            becomes(port, 503, reason="did not answer within 2 s")
        finally:
            core.process.send_signal(signal.SIGCONT)
        becomes(port, 200)
        core.stop()
        becomes(port, 503, reason="core: ")
        assert process.poll() is None


def test_a_core_and_its_gateways_are_ready_while_the_database_answers(tmp_path: Path) -> None:
    core_port, gateway_port = free_port(), free_port()
    with own_cluster() as cluster:
        url = cluster.maintenance.set(drivername="postgresql").render_as_string()
        settings = {"RESTANTE_STORE__URL": url, "RESTANTE_HEALTH__CORE": str(core_port)}
        with (
            running_core(tmp_path / "data", **settings) as core,
            gateway("smtp", tmp_path / "data", gateway_port) as process,
        ):
            becomes(core_port, 200)
            becomes(gateway_port, 200)
            cluster.stop()
            becomes(core_port, 503, reason="database: cannot be reached")
            told_at_once(tmp_path / "data", "is not ready: its database does not answer")
            becomes(gateway_port, 503, reason="is not ready")
            cluster.start()
            becomes(core_port, 200)
            becomes(gateway_port, 200)
            cluster.signal(signal.SIGSTOP)
            try:
                becomes(core_port, 503, reason="database: did not answer within 2 s")
                becomes(gateway_port, 503, reason="is not ready")
                told_at_once(tmp_path / "data", "is not ready: its database does not answer")
            finally:
                cluster.signal(signal.SIGCONT)
            becomes(core_port, 200)
            becomes(gateway_port, 200)
            assert core.process is not None and core.process.poll() is None
            assert process.poll() is None


def test_a_core_that_drains_says_so_while_calls_finish(tmp_path: Path) -> None:
    port = free_port()
    with running_core(tmp_path / "data", RESTANTE_HEALTH__CORE=str(port)) as core:
        becomes(port, 200)
        with held_stream(core):
            assert core.process is not None
            core.process.terminate()
            becomes(port, 503, reason="core: draining")


@contextlib.contextmanager
def held_stream(core: CoreProcess) -> Iterator[None]:
    """A call in progress: an Execute stream that its client ends when the context ends."""
    secret = (core.directory / "secrets" / "admin.secret").read_text().strip()
    requests: queue.SimpleQueue[ExecuteRequest | None] = queue.SimpleQueue()
    with grpc.insecure_channel(f"unix:{core.directory / 'core.sock'}") as channel:
        call = BatchServiceStub(channel).Execute(
            iter(requests.get, None), metadata=ProcessIdentity("admin", secret).metadata
        )
        request = ExecuteRequest(operations=[Operation(operation_id=1, get_statistics=GetStatisticsRequest())])
        requests.put(request)
        assert next(call).results[0].operation_id == 1
        yield
        requests.put(None)
