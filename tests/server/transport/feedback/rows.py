"""Rows of DMARC reports for tests."""

from __future__ import annotations

from restante_mail.feedback.aggregate import DkimAuthentication, Override, Row, SpfAuthentication

ROW = Row("192.0.2.1", "none", dkim_aligned=True, spf_aligned=False, header_from="example.org")
FULL = Row(
    "2001:db8::1",
    "quarantine",
    dkim_aligned=False,
    spf_aligned=False,
    header_from="a.example.org",
    envelope_from="example.net",
    overrides=(Override("local_policy", "trusted"),),
    dkim=(DkimAuthentication("example.net", "s", "fail", "the body has changed"),),
    spf=SpfAuthentication("example.net", "softfail"),
)
