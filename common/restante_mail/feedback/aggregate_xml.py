"""DMARC aggregate reports as XML: written as RFC 9990 has them, read in the form of RFC 7489 too. *Pure.*

Reading bounds elements, depth, rows and text, and tolerates the rest: other receivers leave out elements, add some, and
use an old namespace or none. It refuses a report that names no policy domain, no period or no policy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from restante_mail.feedback.aggregate import (
    AggregateReport,
    DkimAuthentication,
    Override,
    PublishedPolicy,
    Row,
    SpfAuthentication,
)
from restante_mail.feedback.errors import BadReport

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
MAX_ROWS = 50_000
MAX_ELEMENTS = 2_000  # of one row or one other part of the report
MAX_DEPTH = 16
MAX_TEXT = 1_000  # characters of one element; a longer text is cut
MAX_SIGNATURES = 100  # of one row (RFC 9990 3.1.3)
MAX_ERRORS = 20
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0
_POLICIES = frozenset({"none", "quarantine", "reject"})
_DISPOSITIONS = _POLICIES | {"pass"}


def write(report: AggregateReport) -> bytes:
    """The report as an XML document in UTF-8."""
    root = Element("feedback", xmlns=NAMESPACE)
    _texts(root, [("version", "1.0")])
    metadata = SubElement(root, "report_metadata")
    _texts(
        metadata,
        [
            ("org_name", report.organization),
            ("email", report.email),
            ("extra_contact_info", report.contact or None),
            ("report_id", report.report_id),
        ],
    )
    _texts(SubElement(metadata, "date_range"), [("begin", str(report.begin)), ("end", str(report.end))])
    _texts(metadata, [*(("error", error) for error in report.errors), ("generator", report.generator or None)])
    published = report.published
    _texts(
        SubElement(root, "policy_published"),
        [
            ("domain", published.domain),
            ("discovery_method", published.discovery_method or None),
            ("p", published.policy),
            ("sp", published.subdomain_policy or None),
            ("np", published.nonexistent_policy or None),
            ("fo", published.failure_options or None),
            ("adkim", published.dkim_alignment or None),
            ("aspf", published.spf_alignment or None),
            ("testing", "y" if published.testing else "n"),
        ],
    )
    for row, count in report.rows:
        _write_row(SubElement(root, "record"), row, count)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _write_row(record: Element, row: Row, count: int) -> None:
    outer = SubElement(record, "row")
    _texts(outer, [("source_ip", row.source_address), ("count", str(count))])
    evaluated = SubElement(outer, "policy_evaluated")
    _texts(
        evaluated,
        [
            ("disposition", row.disposition),
            ("dkim", "pass" if row.dkim_aligned else "fail"),
            ("spf", "pass" if row.spf_aligned else "fail"),
        ],
    )
    for override in row.overrides:
        _texts(SubElement(evaluated, "reason"), [("type", override.kind), ("comment", override.comment or None)])
    _texts(
        SubElement(record, "identifiers"),
        [
            ("header_from", row.header_from),
            ("envelope_from", row.envelope_from),  # empty for the null path (RFC 9990 3.1.1.10)
            ("envelope_to", row.envelope_to or None),
        ],
    )
    results = SubElement(record, "auth_results")
    for one in row.dkim[:MAX_SIGNATURES]:
        _texts(
            SubElement(results, "dkim"),
            [
                ("domain", one.domain),
                ("selector", one.selector),
                ("result", one.result),
                ("human_result", one.explanation or None),
            ],
        )
    if row.spf is not None:
        _texts(
            SubElement(results, "spf"),
            [
                ("domain", row.spf.domain),
                ("scope", "mfrom"),
                ("result", row.spf.result),
                ("human_result", row.spf.explanation or None),
            ],
        )


def _texts(parent: Element, pairs: Iterable[tuple[str, str | None]]) -> None:
    """Add an element for each pair whose text is not None."""
    for name, text in pairs:
        if text is not None:
            SubElement(parent, name).text = _IMPOSSIBLE.sub("?", text)


def read(octets: bytes) -> AggregateReport:
    """Read a report. The caller bounds the size of `octets`. Raises BadReport."""
    try:
        return _Reading(octets).report()
    except (DefusedXmlException, ParseError) as error:
        raise BadReport(f"the XML is not well-formed or not allowed: {error}"[:MAX_TEXT]) from None
    except (LookupError, UnicodeError, ValueError) as error:
        if isinstance(error, BadReport):
            raise
        raise BadReport(f"the XML cannot be read: {error}"[:MAX_TEXT]) from None  # such as its encoding


class _Reading:
    """One document. Each part is read and discarded at its end, so that memory does not grow with the rows."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._metadata: Element | None = None
        self._published: PublishedPolicy | None = None
        self._rows: list[tuple[Row, int]] = []

    def report(self) -> AggregateReport:
        for part in self._parts():
            name = _name(part)
            if name == "report_metadata":
                self._metadata = part
            elif name == "policy_published":
                self._published = _published(part)
            elif name == "record":
                if len(self._rows) >= MAX_ROWS:
                    raise BadReport(f"the report has more than {MAX_ROWS} rows")
                self._rows.append(_row(part))
        if self._metadata is None or self._published is None:
            raise BadReport("the report has no report_metadata or no policy_published")
        return self._finished(self._metadata, self._published)

    def _parts(self) -> Iterator[Element]:
        """The children of the root element, each complete."""
        depth = elements = 0
        root: Element | None = None
        for event, element in iterparse(BytesIO(self._octets), events=("start", "end"), forbid_dtd=True):
            if event == "start":
                depth, elements = depth + 1, elements + 1
                if depth > MAX_DEPTH or elements > MAX_ELEMENTS:
                    raise BadReport("the XML has too many elements, or too deeply nested ones")
                if root is None:
                    root = element
                    if _name(element) != "feedback":
                        raise BadReport("the root element is not feedback")
                continue
            depth -= 1
            if depth == 1 and root is not None:
                yield element
                root.clear()
                elements = 1

    def _finished(self, metadata: Element, published: PublishedPolicy) -> AggregateReport:
        period = _child(metadata, "date_range")
        if period is None:
            raise BadReport("the report has no date_range")
        return AggregateReport(
            organization=_text(metadata, "org_name"),
            email=_text(metadata, "email"),
            report_id=_text(metadata, "report_id"),
            begin=_number(period, "begin"),
            end=_number(period, "end"),
            published=published,
            rows=tuple(self._rows),
            contact=_text(metadata, "extra_contact_info"),
            errors=tuple(_own_text(each) for each in _children(metadata, "error")[:MAX_ERRORS]),
            generator=_text(metadata, "generator"),
        )


def _published(part: Element) -> PublishedPolicy:
    domain, policy = _text(part, "domain").lower(), _text(part, "p").lower()
    if not domain:
        raise BadReport("policy_published has no domain")
    if policy not in _POLICIES:
        raise BadReport(f"the policy {policy!r} is none of none, quarantine, reject")
    return PublishedPolicy(
        domain=domain,
        policy=policy,
        subdomain_policy=_one_of(_text(part, "sp"), _POLICIES),
        nonexistent_policy=_one_of(_text(part, "np"), _POLICIES),
        dkim_alignment=_one_of(_text(part, "adkim"), {"r", "s"}),
        spf_alignment=_one_of(_text(part, "aspf"), {"r", "s"}),
        failure_options=_text(part, "fo"),
        testing=_text(part, "testing").lower() == "y",
        discovery_method=_one_of(_text(part, "discovery_method"), {"psl", "treewalk"}),
    )


def _row(record: Element) -> tuple[Row, int]:
    row, identifiers, results = (_child(record, name) for name in ("row", "identifiers", "auth_results"))
    evaluated = None if row is None else _child(row, "policy_evaluated")
    if row is None or evaluated is None:
        raise BadReport("a record has no row or no policy_evaluated")
    count = _number(row, "count")
    value = Row(
        source_address=_address(_text(row, "source_ip")),
        disposition=_one_of(_text(evaluated, "disposition"), _DISPOSITIONS) or "none",
        dkim_aligned=_text(evaluated, "dkim").lower() == "pass",
        spf_aligned=_text(evaluated, "spf").lower() == "pass",
        header_from=_text(identifiers, "header_from").lower(),
        envelope_from=_text(identifiers, "envelope_from").lower(),
        envelope_to=_text(identifiers, "envelope_to").lower(),
        overrides=tuple(
            Override(_text(each, "type"), _text(each, "comment"))
            for each in _children(evaluated, "reason")[:MAX_SIGNATURES]
        ),
        dkim=tuple(
            DkimAuthentication(
                _text(each, "domain"), _text(each, "selector"), _text(each, "result"), _text(each, "human_result")
            )
            for each in _children(results, "dkim")[:MAX_SIGNATURES]
        ),
        spf=_spf(results),
    )
    return value, count


def _spf(results: Element | None) -> SpfAuthentication | None:
    """The result for the reverse-path; RFC 7489 also had one for HELO."""
    for each in _children(results, "spf"):
        if _text(each, "scope").lower() in ("", "mfrom"):
            return SpfAuthentication(_text(each, "domain"), _text(each, "result"), _text(each, "human_result"))
    return None


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(parent: Element | None, name: str) -> list[Element]:
    return [] if parent is None else [each for each in parent if _name(each) == name]


def _child(parent: Element | None, name: str) -> Element | None:
    found = _children(parent, name)
    return found[0] if found else None


def _own_text(element: Element) -> str:
    return " ".join((element.text or "").split())[:MAX_TEXT]


def _text(parent: Element | None, name: str) -> str:
    """The text of a child; "" if there is none."""
    child = _child(parent, name)
    return "" if child is None else _own_text(child)


def _number(parent: Element, name: str) -> int:
    text = _text(parent, name)
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise BadReport(f"{name} is not a number: {text[:40]!r}")
    return int(text)


def _one_of(text: str, allowed: Iterable[str]) -> str:
    lower = text.lower()
    return lower if lower in allowed else ""


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise BadReport(f"source_ip is not an IP address: {text[:60]!r}") from None
