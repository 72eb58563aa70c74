"""Records that ask for TLS reports, and the JSON of a report (RFC 8460)."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.tls_report import (
    Failure,
    PolicySessions,
    Targets,
    TlsReport,
    report_json,
    report_record,
    targets,
)
from restante_mail.authentication.tls_result import PolicyKind, TlsPolicy, TlsResult

MAIL = "v=TLSRPTv1;rua=mailto:reports@example.com"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (MAIL, Targets(("reports@example.com",))),  # RFC 8460 A.1
        (
            "v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt",
            Targets((), ("https://reporting.example.com/v1/tlsrpt",)),
        ),
        (
            "v=TLSRPTv1; rua = mailto:a%2Bb@example.com?subject=x , https://r.example/ ;",
            Targets(("a+b@example.com",), ("https://r.example/",)),
        ),
        ("v=TLSRPTv1; x=y; rua=mailto:a@example.com; rua=mailto:b@example.com", Targets(("a@example.com",))),
        (
            "v=TLSRPTv1; rua=" + ",".join(f"mailto:{n}@example.com" for n in range(9)),
            Targets(tuple(f"{n}@example.com" for n in range(5))),
        ),
        ("v=TLSRPTv1; rua=mailto:nobody", Targets()),
        ("v=TLSRPTv1; rua=mailto:%ff@example.com", Targets()),
        ("v=TLSRPTv1; rua=mailto:a@example.com%0d%0aBcc:b@example.com", Targets()),
        ("v=TLSRPTv1; rua=ftp://example.com/, http://example.com/, https:example.com", Targets()),
        ("v=TLSRPTv1;", Targets()),
    ],
)
def test_targets_of_a_record(record: str, expected: Targets) -> None:  # RFC 8460 3
    assert targets(record) == expected
    assert report_record([record.encode()]) == (record if expected != Targets() else "")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([MAIL.encode()], MAIL),
        ([b"v=spf1 -all", MAIL.encode()], MAIL),
        ([MAIL.encode()] * 2, ""),
        ([], ""),
        ([MAIL.replace("v1", "v2").encode()], ""),
        ([MAIL.encode() + b"\xff"], ""),
        ([MAIL.encode() + b" " * 5_000], ""),
    ],
)
def test_there_is_one_record(records: list[bytes], expected: str) -> None:
    assert report_record(records) == expected


@given(
    st.lists(st.binary(max_size=80) | st.binary(max_size=40).map(lambda octets: b"v=TLSRPTv1;" + octets), max_size=3)
)
def test_any_records_have_targets_or_none(records: list[bytes]) -> None:
    record = report_record(records)
    assert not record or targets(record) != Targets()


def test_a_report_has_the_form_of_the_rfc() -> None:  # RFC 8460 4.4, B
    policy = TlsPolicy(
        "company-y.example",
        PolicyKind.STS,
        ("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"),
        ("*.mail.company-y.example",),
    )
    failures = (
        Failure(TlsResult.CERTIFICATE_EXPIRED, 100, "2001:db8:abcd:0012::1", "mx1.mail.company-y.example"),
        Failure(
            TlsResult.VALIDATION_FAILURE,
            3,
            "198.51.100.62",
            "mx-backup.mail.company-y.example",
            "203.0.113.58",
            "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
        ),
    )
    report = TlsReport(
        organization="Company-X",
        contact="sts-reporting@company-x.example",
        report_id="5065427c-23d3@company-x.example",
        start=datetime(2016, 4, 1, tzinfo=UTC),
        policies=(PolicySessions(policy, 5326, failures), PolicySessions(TlsPolicy("company-y.example"), 1, ())),
    )
    assert json.loads(report_json(report)) == {
        "organization-name": "Company-X",
        "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
        "contact-info": "sts-reporting@company-x.example",
        "report-id": "5065427c-23d3@company-x.example",
        "policies": [
            {
                "policy": {
                    "policy-type": "sts",
                    "policy-string": [
                        "version: STSv1",
                        "mode: testing",
                        "mx: *.mail.company-y.example",
                        "max_age: 86400",
                    ],
                    "policy-domain": "company-y.example",
                    "mx-host": ["*.mail.company-y.example"],
                },
                "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 103},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "2001:db8:abcd:0012::1",
                        "receiving-mx-hostname": "mx1.mail.company-y.example",
                        "failed-session-count": 100,
                    },
                    {
                        "result-type": "validation-failure",
                        "sending-mta-ip": "198.51.100.62",
                        "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                        "receiving-ip": "203.0.113.58",
                        "failed-session-count": 3,
                        "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                    },
                ],
            },
            {
                "policy": {"policy-type": "no-policy-found", "policy-domain": "company-y.example"},
                "summary": {"total-successful-session-count": 1, "total-failure-session-count": 0},
            },
        ],
    }
