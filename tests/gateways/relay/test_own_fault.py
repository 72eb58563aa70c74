"""Refusals of the relay itself: they defer the mail at a configured server, and nowhere else."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from restante_gateways.relay.own_fault import Blame
from restante_gateways.relay.replies import Answer
from restante_mail.envelope.outcome_reasons import Reason, reason_of
from tests.gateways.relay.conftest import running
from tests.harness.dns_server import dns_server
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.smtp_peer import smtp_peer

HOST, BOB = "smart.example", "bob@example.net"
SMARTHOST, FOUND, TLS_FAILED = Blame(configured=True), Blame(), Blame(tls_failed="handshake failed")


@pytest.mark.parametrize(
    ("code", "text", "status", "reason"),
    [
        (530, "5.7.0 Authentication required", "4.7.0", Reason.AUTHENTICATION),
        (530, "Log in first", "4.7.0", Reason.AUTHENTICATION),
        (535, "5.7.8 credentials invalid", "4.7.8", Reason.AUTHENTICATION),
        (550, "5.7.8 log in", "4.7.8", Reason.AUTHENTICATION),
        (534, "5.7.9 mechanism too weak", "4.7.9", Reason.AUTHENTICATION),
        (530, "5.7.0 Must issue a STARTTLS command first", "4.7.10", Reason.TLS),
        (538, "5.7.11 encryption required", "4.7.10", Reason.TLS),
        (554, "5.7.1 <bob@example.net>: Relay access denied", "4.7.0", Reason.POLICY),
        (550, "Relaying denied", "4.7.0", Reason.POLICY),
        (554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using x.example", "4.7.0", Reason.POLICY),
        (504, "5.5.2 <mx>: Helo command rejected: need fully-qualified hostname", "4.7.0", Reason.POLICY),
        (554, "5.7.1 <x[192.0.2.1]>: Client host rejected: Access denied", "4.7.0", Reason.POLICY),
    ],
)
def test_a_configured_server_that_refuses_this_relay_defers(
    code: int, text: str, status: str, reason: Reason
) -> None:  # RFC 4954 6
    outcome = SMARTHOST.of_command(Answer(code, text), HOST)
    assert (outcome.deferred, outcome.status, outcome.ours, outcome.remote_host) == (True, status, True, HOST)
    assert outcome.diagnostic.startswith(f"the server refuses this relay, not the message: {code} ")
    assert reason_of(outcome.status, outcome.diagnostic) is reason
    assert FOUND.of_command(Answer(code, text), HOST).final  # the recipient chose that server


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (550, "5.1.1 no such user", "5.1.1"),
        (550, '5.1.1 <"relaying denied"@example.net>: unknown', "5.1.1"),
        (553, "5.7.1 <eve@example.test>: Sender address rejected: not owned by user relay", "5.7.1"),
        (552, "5.3.4 too big", "5.3.4"),
        (554, "5.7.1 spam", "5.7.1"),
        (555, "5.5.4 unknown parameter", "5.5.4"),
    ],
)
def test_a_refusal_of_the_message_stays_permanent(code: int, text: str, status: str) -> None:
    for blame in (SMARTHOST, FOUND, TLS_FAILED):
        outcome = blame.of_command(Answer(code, text), HOST)
        assert (outcome.final, outcome.status, outcome.ours) == (True, status, False)


@pytest.mark.parametrize("code", [554, 550, 521, 502])
def test_a_refused_greeting_or_hello_defers_at_a_configured_server_alone(code: int) -> None:  # RFC 5321 3.1
    refused = Answer(code, "5.7.1 go away")
    assert SMARTHOST.of_greeting(refused, HOST).deferred
    assert FOUND.of_greeting(refused, HOST).final
    assert SMARTHOST.of_greeting(Answer(421, "4.3.2 busy"), HOST).status == "4.3.2"


def test_successes_and_deferrals_are_what_they_were() -> None:
    assert SMARTHOST.of_command(Answer(250, "2.0.0 relay access denied"), HOST, dsn_passed_on=True).dsn_passed_on
    assert SMARTHOST.of_command(Answer(450, "4.2.0 later"), HOST).status == "4.2.0"
    assert not SMARTHOST.of_command(Answer(454, "4.7.0 relay access denied"), HOST).ours


def test_a_demand_of_the_tls_that_has_failed_defers() -> None:  # RFC 3207 4
    wanted = Answer(530, "5.7.0 Must issue a STARTTLS command first")
    outcome = TLS_FAILED.of_command(wanted, HOST)
    assert (outcome.deferred, outcome.status, outcome.ours) == (True, "4.7.5", False)
    assert "handshake failed" in outcome.diagnostic and "530" in outcome.diagnostic
    assert TLS_FAILED.of_command(Answer(530, "5.7.0 Authentication required"), HOST).final


def test_a_reply_of_any_length_is_searched_at_its_beginning_alone() -> None:
    assert SMARTHOST.of_command(Answer(550, "x" * 2_000 + "relaying denied"), HOST).final


@pytest.mark.parametrize("place", ["MAIL", "RCPT", "DATA", "content"])
async def test_the_administrator_reads_of_it_in_the_log_and_in_the_queue(place: str) -> None:
    core = OutboundQueue()
    registry = CollectorRegistry()
    async with smtp_peer() as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}, registry=registry):
        peer.replies[place] = "530 5.7.0 Authentication required"
        with capture_logs() as logs:
            lease = core.put(BOB)
            assert await core.outcomes(lease) == [("deferred", "4.7.0")]
    shown = "the server refuses this relay, not the message: 530 5.7.0 Authentication required"
    assert core.reports[lease][0].diagnostic == shown
    said = [entry for entry in logs if entry["event"] == "a configured server takes no mail from this relay"]
    assert [(entry["log_level"], entry["detail"]) for entry in said] == [("error", shown)]
    assert registry.get_sample_value("restante_relay_own_faults_total") == 1


async def test_a_server_that_demands_the_tls_that_failed_gets_the_mail_later() -> None:
    """The server is found by the DNS. Its 530 would bounce the mail because of a fault of its own TLS, which passes."""
    zone = "example.net MX 10 mx.example.net.\nmx.example.net A 127.0.0.1"
    core = OutboundQueue()
    async with smtp_peer(extensions=("STARTTLS",)) as peer, dns_server(zone) as dns:
        peer.replies["STARTTLS"] = "454 4.7.0 no certificate at the moment"
        peer.replies["MAIL"] = "530 5.7.0 Must issue a STARTTLS command first"
        async with running(core, {}, nameservers=(dns.address,), port=peer.port, allow_private=("127.0.0.0/8",)):
            lease = core.put(BOB)
            assert await core.outcomes(lease) == [("deferred", "4.7.5")]
            assert "454" in core.reports[lease][0].diagnostic
