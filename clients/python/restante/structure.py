"""The parts of a message, from the BODYSTRUCTURE that the core keeps (RFC 9051 7.5.2). *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from restante_mail.header.words import decode_parameters, decode_text
from restante_mail.mime.transfer import TransferDecoder, transfer_decoder
from restante_mail.text.charsets import decode

MAX_DEPTH = 200

Value = str | int | list["Value"] | None


@dataclass(frozen=True, slots=True)
class Part:
    """One part. `number` is the value for `Section.part`; it is empty for a top-level multipart."""

    number: tuple[int, ...]
    media_type: str  # lower case, such as "text/plain"
    parameters: dict[str, str] = field(default_factory=dict)
    encoding: str = "7bit"  # content transfer encoding, lower case
    size_octets: int = 0  # in its transfer encoding
    disposition: str = ""  # "inline", "attachment" or empty
    file_name: str = ""  # decoded, chosen by the sender: not safe as a path
    content_id: str = ""
    children: tuple[Part, ...] = ()

    @property
    def label(self) -> str:
        """Its number as people write it, such as "2.1"."""
        return ".".join(map(str, self.number)) or "0"

    @property
    def is_attachment(self) -> bool:
        """Whether it is to be saved rather than shown: true for all but plain and HTML text without a file name."""
        if self.media_type.startswith("multipart/"):
            return False
        if self.disposition == "attachment" or self.file_name:
            return True
        return self.media_type not in ("text/plain", "text/html")

    def decoder(self) -> TransferDecoder:
        """A decoder of its transfer encoding, for content in pieces."""
        return transfer_decoder(self.encoding)

    def text(self, octets: bytes) -> str:
        """The text of a text part from octets without transfer encoding; line ends are LF.

        The charset is read as the core reads it for search. An invalid octet becomes U+FFFD.
        """
        return decode(octets, self.parameters.get("charset", "")).replace("\r\n", "\n")

    def walk(self) -> Iterator[Part]:
        """This part and all parts below it, in order, including those of attached messages."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, media_type: str) -> Part | None:
        """The first part of a media type that is no attachment; parts of attached messages do not count."""
        if self.media_type == media_type and not self.is_attachment:
            return self
        if self.media_type == "message/rfc822":
            return None
        return next((found for child in self.children if (found := child.find(media_type)) is not None), None)

    def attachments(self) -> Iterator[Part]:
        """The attachments; an attached message counts as one."""
        if self.is_attachment:
            yield self
            return
        for child in self.children:
            yield from child.attachments()


def parse_structure(octets: bytes) -> Part:
    """The part tree of a BODYSTRUCTURE. Raises ValueError."""
    tokens = _tokens(octets)
    if next(tokens, None) != "(":
        raise ValueError("a body structure begins with a parenthesis")
    values = _list(tokens, 0)
    if next(tokens, None) is not None:
        raise ValueError("something follows the body structure")
    return _part(values, (), top=True)


_TOKEN = re.compile(rb'\s*(?:([()])|"((?:[^"\\]|\\.)*)"|\{(\d+)\}\r\n|([^\s()"{]+))', re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Text:
    value: str


def _tokens(octets: bytes) -> Iterator[str | _Text]:
    """The tokens: parentheses and atoms as str, strings as _Text, one octet a character (latin-1)."""
    position = 0
    while position < len(octets):
        found = _TOKEN.match(octets, position)
        if found is None:
            if octets[position:].strip():
                raise ValueError(f"no body structure at octet {position}")
            return
        position = found.end()
        paren, quoted, length, atom = found.groups()
        if paren is not None:
            yield paren.decode()
        elif quoted is not None:
            yield _Text(re.sub(rb"\\(.)", rb"\1", quoted, flags=re.DOTALL).decode("latin-1"))
        elif length is not None:
            end = position + int(length)
            if end > len(octets):
                raise ValueError("a literal is cut short")
            yield _Text(octets[position:end].decode("latin-1"))
            position = end
        else:
            yield atom.decode("latin-1")


def _list(tokens: Iterator[str | _Text], depth: int) -> list[Value]:
    """The values up to the closing parenthesis."""
    if depth > MAX_DEPTH:
        raise ValueError("the body structure is nested too deeply")
    values: list[Value] = []
    for item in tokens:
        if isinstance(item, _Text):
            values.append(item.value)
        elif item == "(":
            values.append(_list(tokens, depth + 1))
        elif item == ")":
            return values
        elif item.upper() == "NIL":
            values.append(None)
        else:
            values.append(int(item) if item.isdigit() else item)
    raise ValueError("a parenthesis is not closed")


def _part(values: list[Value], number: tuple[int, ...], *, top: bool = False) -> Part:
    if values and isinstance(values[0], list):
        return _multipart(values, number)
    if len(values) < 7:
        raise ValueError("a part has too few fields")
    number = (1,) if top else number
    media_type = f"{_text(values[0])}/{_text(values[1])}".lower()
    parameters = _parameters(values[2])
    children: tuple[Part, ...] = ()
    extension = 8 if media_type.startswith("text/") else 7
    if media_type == "message/rfc822" and len(values) > 9 and isinstance(values[8], list):
        below = values[8]
        inner = number if below and isinstance(below[0], list) else (*number, 1)
        children, extension = (_part(below, inner),), 10
    disposition = values[extension + 1] if len(values) > extension + 1 else None
    kind, details = _disposition(disposition)
    return Part(
        number=number,
        media_type=media_type,
        parameters=parameters,
        encoding=_text(values[5]).lower() or "7bit",
        size_octets=values[6] if isinstance(values[6], int) else 0,
        disposition=kind,
        file_name=details.get("filename") or parameters.get("name", ""),
        content_id=decode_text(_text(values[3])).strip("<>"),
        children=children,
    )


def _multipart(values: list[Value], number: tuple[int, ...]) -> Part:
    below = []
    for value in values:
        if not isinstance(value, list):
            break
        below.append(value)
    rest = values[len(below) :]
    return Part(
        number=number,
        media_type=f"multipart/{_text(rest[0] if rest else None) or 'mixed'}".lower(),
        parameters=_parameters(rest[1] if len(rest) > 1 else None),
        children=tuple(_part(value, (*number, index)) for index, value in enumerate(below, 1)),
    )


def _disposition(value: Value) -> tuple[str, dict[str, str]]:
    if not isinstance(value, list) or not value:
        return "", {}
    return _text(value[0]).lower(), _parameters(value[1] if len(value) > 1 else None)


def _text(value: Value) -> str:
    return value if isinstance(value, str) else "" if value is None or isinstance(value, list) else str(value)


def _parameters(value: Value) -> dict[str, str]:
    """{lower-case name: decoded value}, decoded as in the core (RFC 2231, and RFC 2047 as some programs misuse it)."""
    if not isinstance(value, list):
        return {}
    texts = [_text(item) for item in value]
    return decode_parameters([(texts[i], texts[i + 1]) for i in range(0, len(texts) - 1, 2)])
