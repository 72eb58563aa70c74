"""Decoding of a part's body in pieces: its transfer encoding, and for text its charset. *Pure.*

Search, previews, and clients that ask for decoded octets all use these decoders, so that they all see the same text.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from restante_mail.mime.parts import Part
from restante_mail.mime.transfer import TransferDecoder, decode_pieces, is_encoded, transfer_decoder
from restante_mail.octets import Buffer, take
from restante_mail.text.charsets import TextDecoder, decode

__all__ = ["Decoding", "PartText", "decoded", "part_decoder", "whole_text"]

_CHUNK = 1 << 16  # octets read at a time


class Decoding(enum.Enum):
    """The form in which a reader wants a body."""

    NONE = enum.auto()  # as stored
    TRANSFER = enum.auto()  # without its transfer encoding
    TEXT = enum.auto()  # without its transfer encoding, and in UTF-8


class PartText:
    """Decodes the body of a text part to text. The joined texts of any pieces equal the text of the whole."""

    def __init__(self, part: Part) -> None:
        self._transfer, self._charset = transfer_decoder(part.encoding), TextDecoder(part.charset)

    def feed(self, octets: bytes) -> str:
        """The text that later octets cannot change."""
        return self._charset.feed(self._transfer.feed(octets))

    def finish(self) -> str:
        """The rest of the text, at the end of the body."""
        return self._charset.feed(self._transfer.finish(), final=True)


def whole_text(part: Part, octets: bytes) -> str:
    """The text of a text part whose body is `octets`: the same as by PartText, at less cost."""
    fields = part.fields
    if is_encoded(fields.encoding):
        transfer = transfer_decoder(fields.encoding)
        octets = transfer.feed(octets) + transfer.finish()
    return decode(octets, fields.charset)


class _Utf8:
    """The text of a part in UTF-8. A lone surrogate, which UTF-8 cannot hold, becomes a question mark."""

    def __init__(self, part: Part) -> None:
        self._text = PartText(part)

    def feed(self, octets: bytes) -> bytes:
        return self._text.feed(octets).encode("utf-8", "replace")

    def finish(self) -> bytes:
        return self._text.finish().encode("utf-8", "replace")


def part_decoder(part: Part, decoding: Decoding) -> TransferDecoder | None:
    """A decoder of the part's body; None if the body as stored is the wanted form already.

    A multipart has no transfer encoding (RFC 2045 6.4); a wrong declaration of one is ignored.
    """
    if decoding is Decoding.TEXT and not part.is_multipart:
        return _Utf8(part)
    if decoding is Decoding.NONE or part.is_multipart or not is_encoded(part.encoding):
        return None
    return transfer_decoder(part.encoding)


def decoded(buffer: Buffer, part: Part, decoding: Decoding = Decoding.TRANSFER, chunk: int = _CHUNK) -> Iterator[bytes]:
    """The decoded body of a part, in pieces.

    Malformed encodings are decoded as far as possible (RFC 2045 6.7 and 6.8); an unknown one gives the raw octets.
    """
    raw = (take(buffer, at, min(at + chunk, part.body_end)) for at in range(part.body_start, part.body_end, chunk))
    decoder = part_decoder(part, decoding)
    return raw if decoder is None else decode_pieces(decoder, raw)
