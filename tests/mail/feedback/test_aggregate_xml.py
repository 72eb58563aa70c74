"""DMARC aggregate reports: what is written is read back, what others write is understood, hostile input is refused."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.feedback import aggregate_xml
from restante_mail.feedback.aggregate import (
    AggregateReport,
    DkimAuthentication,
    Override,
    PublishedPolicy,
    Row,
    SpfAuthentication,
)
from restante_mail.feedback.errors import BadReport

ROW = Row(
    source_address="192.0.2.1",
    disposition="quarantine",
    dkim_aligned=False,
    spf_aligned=True,
    header_from="example.com",
    envelope_from="mail.example.com",
    envelope_to="example.org",
    overrides=(Override("local_policy", "the sealer example.net is trusted"),),
    dkim=(DkimAuthentication("example.com", "s1", "fail", "the body hash differs"),),
    spf=SpfAuthentication("mail.example.com", "pass"),
)
REPORT = AggregateReport(
    organization="Example",
    email="postmaster@example.org",
    report_id="2026.11.29@example.org",
    begin=1_764_374_400,
    end=1_764_460_799,
    published=PublishedPolicy(
        "example.com", "quarantine", "none", "reject", "r", "s", "1:d", testing=True, discovery_method="treewalk"
    ),
    rows=((ROW, 12), (replace(ROW, source_address="2001:db8::1", envelope_from="", dkim=(), spf=None), 1)),
    contact="https://example.org/mail",
    errors=("two records",),
    generator="Restante",
)

# As RFC 7489 receivers write it: no namespace, pct, a SPF result for HELO.
OLD = b"""<?xml version="1.0" encoding="windows-1252"?>
<feedback>
  <report_metadata><org_name>Caf\xe9</org_name><email>a@example.net</email><report_id>1</report_id>
    <date_range><begin>1</begin><end> 2 </end></date_range></report_metadata>
  <policy_published><domain>Example.COM</domain><adkim>r</adkim><p>none</p><sp>none</sp><pct>100</pct></policy_published>
  <record>
    <row><source_ip>192.0.2.7</source_ip><count>3</count>
      <policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row>
    <identifiers><header_from>example.com</header_from></identifiers>
    <auth_results><dkim><domain>example.com</domain><result>pass</result></dkim>
      <spf><domain>mx.example.net</domain><scope>helo</scope><result>none</result></spf>
      <spf><domain>example.com</domain><scope>mfrom</scope><result>softfail</result></spf></auth_results>
  </record>
</feedback>
"""

words = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], blacklist_characters="\ufffe\uffff"), max_size=20
)
domains = st.sampled_from(["example.com", "a.example.org", "xn--mnchen-3ya.example"])
rows = st.builds(
    Row,
    source_address=st.ip_addresses().map(str),
    disposition=st.sampled_from(["none", "pass", "quarantine", "reject"]),
    dkim_aligned=st.booleans(),
    spf_aligned=st.booleans(),
    header_from=domains,
    envelope_from=domains | st.just(""),
    envelope_to=domains | st.just(""),
    overrides=st.lists(st.builds(Override, st.sampled_from(["local_policy", "other"]), words), max_size=2).map(tuple),
    dkim=st.lists(
        st.builds(DkimAuthentication, domains, words, st.sampled_from(["pass", "fail"]), words), max_size=3
    ).map(tuple),
    spf=st.none() | st.builds(SpfAuthentication, domains, st.sampled_from(["pass", "softfail"]), words),
)


def test_a_report_is_read_back_as_it_was_written() -> None:
    assert aggregate_xml.read(aggregate_xml.write(REPORT)) == REPORT


@given(st.lists(st.tuples(rows, st.integers(1, 10**12)), min_size=1, max_size=4).map(tuple), words)
def test_every_report_is_read_back(rows: tuple[tuple[Row, int], ...], organization: str) -> None:
    report = replace(REPORT, rows=rows, organization=organization)
    assert aggregate_xml.read(aggregate_xml.write(report)) == report


def test_control_characters_do_not_spoil_the_document() -> None:
    report = aggregate_xml.read(aggregate_xml.write(replace(REPORT, organization="a\x00b\x1b<c>&\ud800")))
    assert report.organization == "a?b?<c>&?"


def test_a_report_in_the_older_form_is_read() -> None:
    report = aggregate_xml.read(OLD)
    assert (report.organization, report.published.domain, report.begin, report.end) == ("Café", "example.com", 1, 2)
    ((row, count),) = report.rows
    assert count == 3
    assert row.dkim == (DkimAuthentication("example.com", "", "pass"),)
    assert row.spf == SpfAuthentication("example.com", "softfail")


LAUGHS = b"<!DOCTYPE f [" + b"".join(
    b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10 if n else b"ha") for n in range(12)
)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", "no element found"),
        (b"<feedback>", "no element found"),
        (b"<html/>", "root element is not feedback"),
        (b"<feedback/>", "no report_metadata"),
        (LAUGHS + b"]><feedback>&a11;</feedback>", "not allowed"),
        (b'<!DOCTYPE f SYSTEM "file:///etc/passwd"><feedback/>', "not allowed"),
        (b"<feedback>" + b"<a>" * 100 + b"</a>" * 100 + b"</feedback>", "too deeply"),
        (b"<feedback><a>" + b"<b/>" * 5_000 + b"</a></feedback>", "too many elements"),
        (b'<?xml version="1.0" encoding="klingon"?><feedback/>', "encoding"),
        (b"\xff\xfe<feedback/>", "not well-formed"),
        (OLD.replace(b"<count>3", b"<count>-3"), "count is not a number"),
        (OLD.replace(b"192.0.2.7", b"192.0.2.700"), "not an IP address"),
        (OLD.replace(b"<p>none", b"<p>destroy"), "'destroy'"),
        (OLD.replace(b"<domain>Example.COM</domain>", b""), "no domain"),
        (OLD.replace(b"policy_evaluated", b"policy_evaluate"), "no policy_evaluated"),
        (OLD.replace(b"date_range", b"range"), "no date_range"),
    ],
)
def test_a_bad_report_is_refused_with_its_reason(octets: bytes, reason: str) -> None:
    with pytest.raises(BadReport, match=reason):
        aggregate_xml.read(octets)


def test_the_number_of_rows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregate_xml, "MAX_ROWS", 1)
    with pytest.raises(BadReport, match="more than 1 rows"):
        aggregate_xml.read(aggregate_xml.write(REPORT))


def test_long_texts_are_cut() -> None:
    report = aggregate_xml.read(OLD.replace(b"Caf\xe9", b"x" * 100_000))
    assert report.organization == "x" * aggregate_xml.MAX_TEXT


@given(st.data())
def test_damaged_reports_are_read_or_refused(data: st.DataObject) -> None:
    octets = bytearray(aggregate_xml.write(REPORT))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=10))
    try:
        aggregate_xml.read(bytes(octets))
    except BadReport:
        pass  # the only error


def test_the_work_grows_with_the_rows_alone() -> None:
    small, large = (aggregate_xml.write(replace(REPORT, rows=((ROW, 1),) * count)) for count in (500, 4_000))

    def calls(octets: bytes) -> int:
        """The calls of Python and C functions while a report is read."""
        counted: Counter[str] = Counter()
        sys.setprofile(lambda frame, event, argument: counted.update((event,)))
        try:
            aggregate_xml.read(octets)
        finally:
            sys.setprofile(None)
        return counted["call"] + counted["c_call"]

    assert calls(large) < 9 * calls(small)
