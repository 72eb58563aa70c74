"""The trace as people read it: lines within the terminal's width, and every step on a line of its own."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from restante.v1.admin_pb2 import MessageTrace, TraceEvent
from restante.v1.checks_pb2 import CheckResult, DkimCheck, DmarcCheck, MessageChecks, SpfCheck
from restante.v1.submission_pb2 import RecipientState
from restante_cli.admin import trace

PASS, FAIL = CheckResult.CHECK_RESULT_PASS, CheckResult.CHECK_RESULT_FAIL
REPLY = "4.4.1 [mx.example.net] 451 4.7.1 greylisted, try again later, as often as you like, but not too often"


def message() -> dict[str, Any]:
    moment = Timestamp(seconds=1_861_956_000)
    steps = [
        (1, "someone@a-long-domain-name.example.net", RecipientState.RECIPIENT_STATE_PENDING, REPLY),
        (1, "someone@a-long-domain-name.example.net", RecipientState.RECIPIENT_STATE_DISCARDED, "2.0.0"),
        (0, "", RecipientState.RECIPIENT_STATE_UNSPECIFIED, "header read by the local administrator"),
    ]
    checks = MessageChecks(
        spf=[SpfCheck(result=PASS, domain="example.org")],
        dkim=[DkimCheck(result=FAIL, domain="example.org")],
        dmarc=DmarcCheck(result=PASS, author_domain="example.org"),
    )
    return trace.traced(
        MessageTrace(
            transport_id=17,
            accepted_at=moment,
            reverse_path="alice@example.test",
            internet_message_id="<eb80e758b04528bf6daf1ee652f37f42@example.test>",
            size_octets=438,
            source="192.0.2.1",
            checks=checks,
            events=[
                TraceEvent(happened_at=moment, recipient_id=number, forward_path=path, state=state, detail=detail)
                for number, path, state, detail in steps
            ],
        )
    )


@pytest.mark.parametrize("width", [80, 120, 160])
def test_a_trace_keeps_within_the_terminal(width: int) -> None:
    lines = list(trace.lines(message(), width))
    assert max(map(len, lines)) <= width
    assert lines[0] == "17  from alice@example.test  438 B  by 192.0.2.1"
    assert lines[2] == "    checks: spf=pass dkim=fail (example.org) dmarc=pass"
    words = " ".join(" ".join(lines).split())
    assert REPLY in words
    assert "discarded someone@a-long-domain-name.example.net 2.0.0" in words
    assert "note (message) header read by the local administrator" in words
    begun = [line for line in lines[3:] if line.startswith("  2")]
    assert len(begun) == 3  # a line for each step
    assert {line[23:32].strip() for line in begun} == {"pending", "discarded", "note"}


def test_a_word_longer_than_a_line_stays_whole() -> None:
    long = message() | {"message_id_field": f"<{'x' * 200}@example.test>"}
    assert f"    <{'x' * 200}@example.test>" in list(trace.lines(long, 80))
