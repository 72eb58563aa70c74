"""SIGHUP to `up` and its processes: certificates are read again, no process ends, no client is disconnected."""

from __future__ import annotations

import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restante_process.tls import CertificateFiles
from tests.harness.certificates import pair_maker
from tests.harness.demo import Demo, running_demo

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

TLS_PORTS = ("api", "imaps", "pop3s", "submissions")
SECONDS = 15.0


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo for this module alone, because the tests replace its certificates."""
    with running_demo(tmp_path_factory.mktemp("reload") / "data") as started:
        yield started


def shown(demo: Demo, name: str) -> str:
    """The certificate (PEM) on a port."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    if name == "api":
        tls.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", demo.port(name)), timeout=5) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        der = client.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der).strip()


def all_shown(demo: Demo) -> set[str]:
    return {shown(demo, name) for name in TLS_PORTS}


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def put(demo: Demo, files: CertificateFiles) -> str:
    """Replace the demo's pair and return the new certificate."""
    (demo.directory / "tls" / "key.pem").write_bytes(files.key.read_bytes())
    (demo.directory / "tls" / "cert.pem").write_bytes(files.certificate.read_bytes())
    return files.certificate.read_text().strip()


def hang_up(demo: Demo) -> None:
    assert demo.process is not None
    demo.process.send_signal(signal.SIGHUP)


def test_every_process_reads_its_certificates_again_and_none_ends(mine: Demo, tmp_path: Path) -> None:
    make = pair_maker(tmp_path)
    before = {name: child.pid for name, child in mine.children().items()}
    assert set(before) == {"core", "imap", "pop3", "smtp", "relay"}
    with socket.create_connection(("127.0.0.1", mine.port("imap")), timeout=5) as staying:
        assert staying.recv(1_000).startswith(b"* OK")
        wanted = put(mine, make("first", "localhost"))
        hang_up(mine)
        assert within(SECONDS, lambda: all_shown(mine) == {wanted})
        (mine.directory / "tls" / "cert.pem").write_text("no certificate")
        hang_up(mine)
        assert within(SECONDS, lambda: mine.log.count("not replaced") >= 4), "the core and three gateways say so"
        assert all_shown(mine) == {wanted}
        put(mine, make("second", "localhost"))
        staying.sendall(b"a NOOP\r\n")
        assert staying.recv(1_000).startswith(b"a OK")
    assert {name: child.pid for name, child in mine.children().items()} == before
    assert mine.ready()


def test_what_needs_a_restart_is_named_and_the_rest_is_used(mine: Demo) -> None:
    text = mine.configuration.read_text()
    changed = text.replace('level = "warning"', 'level = "info"').replace(
        f"api_port = {mine.port('api')}", "api_port = 1"
    )
    assert changed.count("api_port = 1\n") == 1
    mine.configuration.write_text(changed)
    hang_up(mine)
    said = "these changed keys take effect after a restart: core.api_port"
    assert within(SECONDS, lambda: mine.log.count(said) >= 6), mine.log[-2_000:]
    assert within(SECONDS, lambda: "certificate loaded" in mine.log), "which is told from the level info on"
    mine.configuration.write_text(text + "\n[nonsense]\n")
    hang_up(mine)
    assert within(SECONDS, lambda: "nonsense: unknown key" in mine.log)
    mine.configuration.write_text(text)
    assert mine.ready()
