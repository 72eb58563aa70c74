"""`restante up --demo`: its listeners, its end, and the restart of a process that dies."""

from __future__ import annotations

import imaplib
import os
import poplib
import re
import signal
import smtplib
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.harness.demo import Demo, free_base, running_demo

pytestmark = pytest.mark.end_to_end


def restante(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "restante_cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def wait_for(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_every_protocol_answers_its_people(demo: Demo) -> None:
    imap = imaplib.IMAP4("127.0.0.1", demo.port("imap"))
    imap.login(demo.address("alice"), demo.password("alice"))  # except-loopback: no TLS is needed here
    assert int(imap.select("INBOX")[1][0] or b"0") >= 3
    imap.logout()
    imaps = imaplib.IMAP4_SSL("localhost", demo.port("imaps"), ssl_context=demo.tls())
    imaps.login(demo.address("bob"), demo.password("bob"))
    imaps.logout()
    pop3 = poplib.POP3_SSL("localhost", demo.port("pop3s"), context=demo.tls())
    pop3.user(demo.address("carol"))
    pop3.pass_(demo.password("carol"))
    assert pop3.stat()[0] >= 3
    pop3.quit()
    with smtplib.SMTP_SSL("localhost", demo.port("submissions"), context=demo.tls()) as smtp:
        smtp.login(demo.address("alice"), demo.password("alice"))
        assert smtp.noop()[0] == 250


def test_metrics_of_all_processes_come_from_one_port(demo: Demo) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{demo.port('up')}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    for name in ("core", "imap", "pop3", "smtp", "relay"):
        assert f'restante_process_restarts_total{{process="{name}"}}' in text
    described = [line for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(described) == len(set(described))


def test_nothing_listens_beyond_this_machine(demo: Demo) -> None:
    assert demo.process is not None
    listening = [
        connection.laddr.ip
        for process in (psutil.Process(demo.process.pid), *demo.children().values())
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 14
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_second_supervisor_of_the_directory_is_refused(demo: Demo) -> None:
    refused = restante("up", "--demo", "--data", str(demo.directory), "--base-port", str(free_base()))
    assert refused.returncode == 1
    assert "is already running on" in refused.stderr


def test_busy_ports_are_named(demo: Demo, tmp_path: Path) -> None:
    refused = restante("up", "--demo", "--data", str(tmp_path / "other"), "--base-port", str(demo.base))
    assert refused.returncode == 1
    assert f"imap.listeners.imap: cannot listen on 127.0.0.1:{demo.port('imap')}: another program" in refused.stderr
    assert f"core.api_port: cannot listen on 127.0.0.1:{demo.port('api')}: another program" in refused.stderr
    assert "--base-port" in refused.stderr


def test_a_directory_that_we_did_not_make_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    refused = restante("up", "--demo", "--data", str(tmp_path))
    assert refused.returncode == 1
    assert "not a directory of restante" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_secrets_and_the_directory_are_for_the_owner_alone(demo: Demo) -> None:
    assert demo.directory.stat().st_mode & 0o077 == 0
    for name in ("secrets/admin.secret", "secrets/smtp.secret", "tls/key.pem"):
        assert (demo.directory / name).stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_a_process_that_dies_is_started_again_and_the_others_recover(tmp_path: Path) -> None:
    with running_demo(tmp_path / "data") as demo:
        before = demo.children()
        assert set(before) == {"core", "imap", "pop3", "smtp", "relay"}
        for name in ("imap", "core"):
            before[name].kill()
        wait_for(lambda: demo.children().get("core", before["core"]).pid != before["core"].pid)
        wait_for(demo.ready)

        def logged_in() -> bool:
            try:
                with imaplib.IMAP4("127.0.0.1", demo.port("imap"), timeout=10) as imap:
                    imap.login(demo.address("alice"), demo.password("alice"))
            except (OSError, imaplib.IMAP4.error):
                return False
            return True

        wait_for(logged_in)
        assert demo.children()["smtp"].pid == before["smtp"].pid


@pytest.mark.slow
def test_it_drains_on_sigterm_and_keeps_what_it_has(tmp_path: Path) -> None:
    with running_demo(tmp_path / "data") as demo:
        imap = imaplib.IMAP4("127.0.0.1", demo.port("imap"))
        imap.login(demo.address("alice"), demo.password("alice"))
        assert demo.process is not None
        demo.process.send_signal(signal.SIGTERM)
        assert b"BYE" in imap.readline()  # clients get a BYE
        assert demo.stop() == 0
        demo.start()  # the same directory: nothing is made twice
        imap = imaplib.IMAP4("127.0.0.1", demo.port("imap"))
        imap.login(demo.address("alice"), demo.password("alice"))
        assert imap.select("INBOX")[1] == [b"3"]
        imap.logout()


@pytest.mark.slow
@pytest.mark.faults
def test_children_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with running_demo(tmp_path / "data") as demo:
        assert demo.process is not None
        processes = list(demo.children().values())
        os.kill(demo.process.pid, signal.SIGKILL)
        demo.process.wait()
        _, alive = psutil.wait_procs(processes, timeout=20)
        assert alive == []
        demo.start()  # and the directory can be used again


@pytest.mark.slow
def test_gateways_that_share_a_port_are_restarted_one_without_the_other(tmp_path: Path) -> None:
    wanted = {"RESTANTE_PROCESSES__IMAP": "2", "RESTANTE_PROCESSES__SMTP": "2"}
    with running_demo(tmp_path / "data", environment=wanted) as demo:
        before = demo.children()
        assert {"imap", "imap-2", "smtp", "smtp-2"} < set(before)
        clients = [logged_in(demo) for _ in range(16)]
        served = {child.pid for child in (before["imap"], before["imap-2"]) if established(child, demo.port("imap"))}
        assert served == {before["imap"].pid, before["imap-2"].pid}
        before["imap-2"].kill()
        wait_for(lambda: demo.children().get("imap-2", before["imap-2"]).pid != before["imap-2"].pid)
        wait_for(demo.ready)
        assert demo.children()["imap"].pid == before["imap"].pid
        assert {True, False} == {alive(client) for client in clients}
        with urllib.request.urlopen(f"http://127.0.0.1:{demo.port('up')}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        assert 'restante_process_restarts_total{process="imap-2"} 1.0' in text
        assert 'restante_process_restarts_total{process="imap"} 0.0' in text
        last = [logged_in(demo) for _ in range(4)]
        assert demo.process is not None
        demo.process.send_signal(signal.SIGTERM)
        assert all(b"BYE" in client.readline() for client in last)


@pytest.mark.slow
def test_several_cores_on_one_postgresql_serve_the_gateways_together(tmp_path: Path, empty_postgres_url: str) -> None:
    wanted = {
        "RESTANTE_STORE__URL": empty_postgres_url,
        "RESTANTE_PROCESSES__CORE": "2",
        "RESTANTE_PROCESSES__IMAP": "2",
    }
    with running_demo(tmp_path / "data", environment=wanted) as demo:
        before = demo.children()
        assert {"core", "core-2", "imap", "imap-2"} < set(before)
        with urllib.request.urlopen(f"http://127.0.0.1:{demo.port('up')}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        used = re.findall(r'restante_gateway_core{core="unix:([^"]+)",gateway="imap",process="[^"]+"} 1.0', text)
        assert {Path(path).parent.name for path in used} == {"data", "core-2"}
        before["core"].kill()  # the gateways go on with the other core while this one is restarted
        for client in [logged_in(demo) for _ in range(8)]:
            assert client.select("INBOX")[1] == [b"3"]
        wait_for(demo.ready)
        assert demo.children()["core-2"].pid == before["core-2"].pid


def logged_in(demo: Demo) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", demo.port("imap"), timeout=20)
    client.login(demo.address("alice"), demo.password("alice"))
    return client


def established(process: psutil.Process, port: int) -> bool:
    return any(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port for each in process.net_connections("tcp")
    )


def alive(client: imaplib.IMAP4) -> bool:
    try:
        return client.noop()[0] == "OK"
    except (OSError, imaplib.IMAP4.abort):
        return False
