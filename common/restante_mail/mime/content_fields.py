"""The meaning of the Content-* fields of a part (RFC 2045, RFC 2183). *Pure.*

The same few combinations of fields are in nearly all mail. Equal short ones are therefore one object, which keeps
whatever follows from the fields alone. A part then costs little more than its offsets.
"""

from __future__ import annotations

from functools import lru_cache

from restante_mail.header.fields import content_value, kept, raw_fields, transfer_encoding, wanted
from restante_mail.header.words import decode_parameters

__all__ = ["CONTENT_NAMES", "ContentFields", "content_fields", "fields_of_block", "language_tags"]

CONTENT_NAMES = (
    "content-type content-transfer-encoding content-id content-description content-disposition content-language "
    "content-location content-md5"
)
_WANTED = wanted(CONTENT_NAMES)
_SHORT_BLOCK = 256  # octets of a header block whose result is kept; the header of a message is longer
_SHORT = 512  # octets of the values together whose result is kept
_MOST_KEPT = 2_048


class ContentFields:
    """The Content-* fields of a part and their meaning. Parts share it, so it never changes.

    `media_type` is in lower case, and is the type that the scanner applied: application/octet-stream for a part nested
    too deep. `raw` has the fields by lower-case name without "content-" ("type", "transfer-encoding"...), unfolded,
    with one character for each octet.
    """

    __slots__ = (
        "attachment",
        "charset",
        "disposition",
        "encoding",
        "is_message",
        "is_multipart",
        "is_text",
        "media_type",
        "octets",
        "parameters",
        "raw",
        "rendered",
        "stored",
    )

    def __init__(self, media_type: str, raw: dict[str, str]) -> None:
        self.media_type, self.raw = media_type, raw
        self.is_multipart = media_type.startswith("multipart/")
        self.is_message = media_type in ("message/rfc822", "message/global")  # RFC 2046 5.2.1, RFC 6532 3.7
        self.is_text = media_type.startswith("text/")
        kind, encoding, disposition = raw.get("type", ""), raw.get("transfer-encoding"), raw.get("disposition")
        self.parameters = content_value(kind).parameters if kind else ()  # of Content-Type, as they are
        self.charset = _charset(kind) if "charset" in kind.lower() else ""
        self.encoding = transfer_encoding(encoding) if encoding else "7bit"
        self.disposition = _disposition(disposition) if disposition else ""
        self.octets = sum(map(len, raw.values()))
        # Kept here by the modules that derive them; None until then.
        self.rendered: tuple[str, str] | None = None  # mime.structure
        self.stored: str | None = None  # mime.parts
        self.attachment: tuple[bool, bool] | None = None  # mime.numbered

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ContentFields) and (self.media_type, self.raw) == (other.media_type, other.raw)

    __hash__ = None  # type: ignore[assignment]  # it holds a dict

    @property
    def filename(self) -> str:
        """The file name from Content-Disposition, else from Content-Type; may be empty. It is unchecked input, so never
        open it as a path."""
        kind, disposition = self.raw.get("type", ""), self.raw.get("disposition", "")
        if "name" not in disposition.lower() + kind.lower():
            return ""
        named = decode_parameters(content_value(disposition).parameters).get("filename")
        return named or decode_parameters(self.parameters).get("name") or ""

    @property
    def content_id(self) -> str:
        """The Content-ID without angle brackets; empty if it is absent."""
        return self.raw.get("id", "").strip("<> \t")


@kept
def _charset(raw: str) -> str:
    return decode_parameters(content_value(raw).parameters).get("charset", "")


@kept
def _disposition(raw: str) -> str:
    kind, _, parameters = content_value(raw)
    named = not kind and any(name.lower().startswith("filename") for name, _value in parameters)
    return "attachment" if named else kind.lower()  # a value with only a file name, like an unknown word: RFC 2183 2.8


def language_tags(raw: str) -> list[str]:
    """The raw tags of a Content-Language (RFC 3282 2)."""
    return [tag.strip() for tag in raw.split(",") if tag.strip()]


def content_fields(media_type: str, raw: dict[str, str]) -> ContentFields:
    """The object of these fields with this media type."""
    if sum(map(len, raw.values())) <= _SHORT:
        return _known(media_type, tuple(raw.items()))
    return ContentFields(media_type, raw)


@lru_cache(_MOST_KEPT)
def _known(media_type: str, items: tuple[tuple[str, str], ...]) -> ContentFields:
    return ContentFields(media_type, dict(items))


def typed(raw: dict[str, str], default: str) -> ContentFields:
    """The object of these fields, with the media type that they declare; without one, `default`."""
    declared = raw.get("type")
    if declared:
        kind, subkind, _ = content_value(declared)
        if subkind:  # without a subtype the default type applies (RFC 2045 5.2)
            default = f"{kind}/{subkind}".lower()
    return content_fields(default, raw)


def fields_of_block(block: bytes, default: str, longest: int) -> ContentFields:
    """The Content-* fields of a header block, the first of each name, without fields of more than `longest` octets.
    `default` is the media type of a part that declares none."""
    if len(block) <= _SHORT_BLOCK and len(block) <= longest:
        return _known_block(block, default)
    return _read(block, default, longest)


def _read(block: bytes, default: str, longest: int) -> ContentFields:
    return typed({name[8:]: values[0] for name, values in raw_fields(block, _WANTED, longest).items()}, default)


@lru_cache(_MOST_KEPT)
def _known_block(block: bytes, default: str) -> ContentFields:
    return _read(block, default, _SHORT_BLOCK)
