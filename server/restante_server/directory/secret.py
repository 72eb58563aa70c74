"""A password in memory that never appears in logs. *Pure*."""

from __future__ import annotations

import unicodedata

MAX_PASSWORD_OCTETS = 1_024


class Secret:
    """Text that no log, traceback or error message may show.

    The constructor prepares it for comparison: all kinds of spaces become U+0020, and the text is NFC (RFC 8265 4.2.1),
    so that a password typed on another keyboard is the same password. Octets that are not UTF-8 stay and match nothing.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text) if not text.isascii() else text
        self._text = unicodedata.normalize("NFC", spaced)

    @classmethod
    def from_octets(cls, octets: bytes) -> Secret:
        """Make a Secret from the octets that a client sent."""
        return cls(octets.decode("utf-8", "surrogateescape"))

    def reveal(self) -> str:
        """The text, for the check of its strength."""
        return self._text

    def octets(self) -> bytes:
        """The text as UTF-8, for hashing."""
        return self._text.encode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not serialised")
