"""The file of a report: its name, and compression in bounded memory (RFC 9990 3.5.2, RFC 8460 5.1). *Pure.*"""

from __future__ import annotations

import gzip
import lzma
import re
import struct
import zipfile
import zlib
from io import BytesIO

from restante_mail.feedback.errors import BadReport

MAX_OCTETS = 16 << 20  # of a decompressed report
MAX_FILES = 10  # in a ZIP archive
_ID = re.compile(r"[^A-Za-z0-9]")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
# Errors of zipfile for damaged archives, encrypted files and unknown methods.
_DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    IndexError,
    OSError,
    OverflowError,
    RuntimeError,  # NotImplementedError is one
    ValueError,
)


def file_name(receiver: str, policy_domain: str, begin: int, end: int, report_id: str, extension: str) -> str:
    """The name of a report's file (RFC 9990 3.5.2, RFC 8460 5.1)."""
    return f"{receiver}!{policy_domain}!{begin}!{end}!{_ID.sub('', report_id)}.{extension}"


def compress(octets: bytes) -> bytes:
    """The octets in the GZIP format; equal octets give an equal result."""
    return gzip.compress(octets, compresslevel=9, mtime=0)


def decompress(octets: bytes, most: int = MAX_OCTETS) -> bytes:
    """The report in a file: GZIP, the first file of a ZIP archive (which some receivers send), or plain.

    Raises BadReport if it is damaged or has more than `most` octets.
    """
    if octets.startswith(_GZIP):
        return _gunzipped(octets, most)
    if octets.startswith(_ZIP):
        return _unzipped(octets, most)
    return _bounded(octets, most)


def _gunzipped(octets: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = inflater.decompress(octets, most + 1)
    except zlib.error as error:
        raise BadReport(f"the GZIP file is damaged: {error}") from None
    _bounded(found, most)
    if not inflater.eof:
        raise BadReport("the GZIP file is not complete")
    return found


def _unzipped(octets: bytes, most: int) -> bytes:
    found = b""
    try:
        with zipfile.ZipFile(BytesIO(octets)) as archive:
            files = [entry for entry in archive.infolist()[:MAX_FILES] if not entry.filename.endswith("/")]
            for entry in files[:1]:
                with archive.open(entry) as file:
                    found = file.read(most + 1)  # the size in the directory may be a lie
    except _DAMAGES as error:
        raise BadReport(f"the ZIP archive cannot be read: {error}") from None
    if not files:
        raise BadReport("the ZIP archive has no file")
    return _bounded(found, most)


def _bounded(octets: bytes, most: int) -> bytes:
    if len(octets) > most:
        raise BadReport(f"the report has more than {most} octets")
    return octets
