"""Encoding of BODYSTRUCTURE and BODY (RFC 3501 7.4.2, RFC 9051 7.5.2). *Pure.*"""

from __future__ import annotations

from collections.abc import Sequence

from restante_mail.header.address_list import Tokens
from restante_mail.header.fields import content_value
from restante_mail.header.nstring import nstring
from restante_mail.header.summary import envelope, read_header
from restante_mail.limits import DEFAULT_LIMITS, Limits
from restante_mail.mime.content_fields import ContentFields, language_tags
from restante_mail.mime.parts import Part
from restante_mail.octets import Buffer, take

__all__ = ["Structures", "structures"]

Structures = tuple[bytes, bytes]  # BODYSTRUCTURE, BODY


def structures(buffer: Buffer, tree: Part, limits: Limits = DEFAULT_LIMITS) -> Structures:
    """Both renderings of a tree: BODYSTRUCTURE, and BODY, which has no extension data (RFC 3501 7.4.2)."""
    full, short = _render(buffer, tree, limits)
    return full.encode("latin-1"), short.encode("latin-1")


def _render(buffer: Buffer, tree: Part, limits: Limits) -> tuple[str, str]:
    """Render children before parents, without recursion."""
    if not tree.children:
        return _leaf(tree)
    done: dict[int, tuple[str, str]] = {}
    tokens = Tokens(limits.address_tokens)
    for part in reversed(list(tree.walk())):
        if not part.children:
            done[id(part)] = _leaf(part)
        elif part.fields.is_multipart:
            done[id(part)] = _multipart(part, [done.pop(id(child)) for child in part.children])
        else:
            done[id(part)] = _message(buffer, part, done.pop(id(part.children[0])), limits, tokens)
    return done[id(tree)]


def _multipart(part: Part, below: list[tuple[str, str]]) -> tuple[str, str]:
    full_end, short_end = part.fields.rendered or _rendered(part.fields)
    return (
        f"({''.join([full for full, _short in below])}{full_end}",
        f"({''.join([short for _full, short in below])}{short_end}",
    )


def _message(buffer: Buffer, part: Part, below: tuple[str, str], limits: Limits, tokens: Tokens) -> tuple[str, str]:
    """An embedded message: its ENVELOPE, body structure and lines follow the basic fields."""
    inner = part.children[0]
    end = min(inner.body_start, inner.header_start + limits.header_octets)
    summary = envelope(read_header(take(buffer, inner.header_start, end), limits, tokens)).decode("latin-1")
    basic, extension = part.fields.rendered or _rendered(part.fields)
    full = f"{basic}{part.octets} {summary} {below[0]} {part.lines}{extension}"
    return full, f"{basic}{part.octets} {summary} {below[1]} {part.lines})"


def _leaf(part: Part) -> tuple[str, str]:
    fields = part.fields
    basic, extension = fields.rendered or _rendered(fields)
    short = f"{basic}{part.body_end - part.body_start}"
    if fields.is_text:
        short = f"{short} {part.lines}"
    return f"{short}{extension}", f"{short})"


def _rendered(fields: ContentFields) -> tuple[str, str]:
    """The rendering that follows from the fields alone, kept with them. Of a multipart, the end of both forms; else the
    beginning, up to the number of octets, and the end with extension data."""
    kind, _, subkind = fields.media_type.partition("/")
    if fields.is_multipart:
        end = f" {nstring(subkind)}"
        fields.rendered = f"{end} {_parameters(fields.parameters)} {_extension(fields)})", f"{end})"
        return fields.rendered
    raw, parameters = fields.raw, fields.parameters
    if fields.media_type == "text/plain" and not any(name.lower() == "charset" for name, _value in parameters):
        parameters = (*parameters, ("charset", "us-ascii"))  # RFC 2046 4.1.2
    basic = (
        f"({nstring(kind)} {nstring(subkind)} {_parameters(parameters)} {nstring(raw.get('id'))} "
        f"{nstring(raw.get('description'))} {nstring(fields.encoding)} "
    )
    fields.rendered = basic, f" {nstring(raw.get('md5'))} {_extension(fields)})"
    return fields.rendered


def _extension(fields: ContentFields) -> str:
    """Disposition, language and location."""
    raw = fields.raw
    if not raw:
        return "NIL NIL NIL"
    disposition = "NIL"
    if fields.disposition:
        parameters = content_value(raw["disposition"]).parameters
        disposition = f"({nstring(fields.disposition)} {_parameters(parameters)})"
    language = _language(language_tags(raw["language"])) if "language" in raw else "NIL"
    return f"{disposition} {language} {nstring(raw.get('location'))}"


def _language(tags: Sequence[str]) -> str:
    if not tags:
        return "NIL"
    return nstring(tags[0]) if len(tags) == 1 else f"({' '.join(map(nstring, tags))})"


def _parameters(pairs: Sequence[tuple[str, str]]) -> str:
    """Parameters with lower-case names and raw values. Those split by RFC 2231 stay split, as clients expect."""
    if not pairs:
        return "NIL"
    return "(" + " ".join(f"{nstring(name.lower())} {nstring(value)}" for name, value in pairs) + ")"
