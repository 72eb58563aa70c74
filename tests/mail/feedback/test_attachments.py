"""The files of reports: compression, and refusal of bombs and damage."""

from __future__ import annotations

import gzip
import zipfile
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.feedback import attachments
from restante_mail.feedback.errors import BadReport

BOMB = b"\0" * (attachments.MAX_OCTETS + 1)


def zipped(files: dict[str, bytes]) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, octets in files.items():
            archive.writestr(name, octets)
    return out.getvalue()


@given(st.binary(max_size=2_000))
def test_compressed_octets_come_back(octets: bytes) -> None:
    assert attachments.decompress(attachments.compress(octets)) == octets


def test_compression_repeats_itself() -> None:
    assert attachments.compress(b"a report") == attachments.compress(b"a report")


def test_plain_and_zipped_reports_are_read() -> None:
    assert attachments.decompress(b"<feedback/>") == b"<feedback/>"
    assert attachments.decompress(zipped({"folder/": b"", "report.xml": b"<feedback/>"})) == b"<feedback/>"


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (gzip.compress(BOMB), "more than"),
        (zipped({"a.xml": BOMB}), "more than"),
        (BOMB, "more than"),
        (gzip.compress(b"a report")[:-9], "not complete"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 40, "damaged"),
        (b"PK\x03\x04broken", "cannot be read"),
        (zipped({}) and zipped({"folder/": b""}), "no file"),
        (zipped({"a.xml": b"x" * 100}).replace(b"PK\x01\x02", b"PK\x01\x03"), "cannot be read"),
    ],
    ids=["gzip-bomb", "zip-bomb", "plain", "cut", "gzip", "zip", "no-file", "directory"],
)
def test_a_bad_file_is_refused_with_its_reason(octets: bytes, reason: str) -> None:
    with pytest.raises(BadReport, match=reason):
        attachments.decompress(octets)


@given(st.data())
def test_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    octets = bytearray(zipped({"report.xml": b"<feedback/>" * 20}))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        attachments.decompress(bytes(octets))
    except BadReport:
        pass  # the only error


def test_the_name_of_a_file_has_five_parts() -> None:
    name = attachments.file_name("mx.example.org", "example.com", 1, 2, "a.b@c", "xml.gz")
    assert name == "mx.example.org!example.com!1!2!abc.xml.gz"
