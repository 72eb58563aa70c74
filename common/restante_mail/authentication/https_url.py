"""The https address of a web server that takes reports (RFC 3986, RFC 9110 4.2.2). *Pure.*"""

from __future__ import annotations

import re
from dataclasses import dataclass

from restante_mail.envelope.paths import BadPath, ascii_domain

MAX_URL_CHARACTERS = 2_000
PORT = 443
# The characters of a path and a query (RFC 3986 3.3, 3.4). A comma, "!" and ";" are percent-encoded in records.
_TARGET = re.compile(r"/[A-Za-z0-9._~:@!$&'()*+,;=%/?-]*")


class BadUrl(ValueError):
    """The text is no usable https address. The text of the error is a predicate."""


@dataclass(frozen=True, slots=True)
class HttpsUrl:
    """An https address."""

    host: str  # a domain name in A-labels and lower case
    port: int
    target: str  # path and query, as a request names them

    @property
    def authority(self) -> str:
        """Host and port, as the field Host has them (RFC 9110 7.2)."""
        return self.host if self.port == PORT else f"{self.host}:{self.port}"


def parse_https(text: str) -> HttpsUrl:
    """Parse an https address: a domain name, no user, no fragment. Raises BadUrl."""
    if len(text) > MAX_URL_CHARACTERS:
        raise BadUrl(f"has more than {MAX_URL_CHARACTERS} characters")
    scheme, colon, rest = text.partition("://")
    if not colon or scheme.lower() != "https":
        raise BadUrl("is no https address")
    authority, query_first = rest, ""
    for at, character in enumerate(rest):
        if character in "/?#":
            authority, query_first = rest[:at], rest[at:]
            break
    target = query_first if query_first.startswith("/") else "/" + query_first
    if not _TARGET.fullmatch(target):
        raise BadUrl("has a character that a path cannot have")
    host, _, port = authority.partition(":")
    try:
        return HttpsUrl(ascii_domain(host.rstrip(".")), _port(port), target)
    except BadPath as bad:
        raise BadUrl(bad.problem) from None


def is_https(text: str) -> bool:
    """Whether a text is a usable https address."""
    try:
        parse_https(text)
    except BadUrl:
        return False
    return True


def _port(text: str) -> int:
    if not text:
        return PORT
    if not (text.isascii() and text.isdecimal()) or len(text) > 5 or not 0 < int(text) < 1 << 16:
        raise BadUrl("has no valid port")
    return int(text)
