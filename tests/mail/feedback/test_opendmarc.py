"""Failure reports of OpenDMARC, made by the program itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from restante_mail.feedback import failure_message
from restante_mail.feedback.failure import FailureReport
from restante_mail.mime.facts import scan
from restante_process.tls import CertificateFiles
from tests.harness.dns_server import dns_server
from tests.harness.peers.place import DNS_PORT, Place, require_root

ZONE = """
bank.test         TXT  "v=spf1 ip4:192.0.2.55 -all"
_dmarc.bank.test  TXT  "v=DMARC1; p=reject; fo=1; ruf=mailto:f@bank.test"
"""
NAMESERVER = "127.0.0.99"
HEADER = (
    b"Authentication-Results: mx.peer.test; dkim=fail header.d=bank.test; spf=fail smtp.mailfrom=bank.test\r\n"
    b"From: Boss <ceo@bank.test>\r\nTo: alice@peer.test\r\nSubject: forged\r\nMessage-ID: <1@bank.test>\r\n"
)
SETTINGS = """\
AuthservID mx.peer.test
TrustedAuthservIDs mx.peer.test
IgnoreHosts {directory}/ignored
RejectFailures false
FailureReports true
FailureReportsSentBy postmaster@peer.test
ReportCommand cat > {directory}/report
Socket inet:0@127.0.0.1
PidFile {directory}/pid
Syslog false
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)  # the program changes users
        yield Path(folder)


@pytest.mark.needs("opendmarc")
async def test_a_report_of_opendmarc_is_read(directory: Path) -> None:
    require_root()
    (directory / "ignored").write_text("192.0.2.1\n")
    (directory / "message").write_bytes(HEADER + b"\r\nHi\r\n")
    (directory / "conf").write_text(SETTINGS.format(directory=directory))
    unused = CertificateFiles(directory, directory)
    async with dns_server(ZONE, NAMESERVER, DNS_PORT):
        place = Place(directory, "peer.test", "127.0.0.1", 0, NAMESERVER, unused, directory)
        await place.run("opendmarc", "-c", directory / "conf", "-t", directory / "message")
    octets = (directory / "report").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    tree = scan(octets).tree
    assert failure_message.is_report(tree)
    found = failure_message.find(octets, tree)
    assert found == FailureReport(
        policy_domain="bank.test",
        source_address="127.0.0.1",
        reverse_path="sender@example.org",  # of its test mode
        authentication_results="mx.peer.test; dmarc=fail header.from=bank.test",
        user_agent=found.user_agent,
        header=found.header,
    )
    assert found.user_agent.startswith("OpenDMARC-Filter/")
    assert found.header == HEADER
