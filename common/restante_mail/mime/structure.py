"""Encoding of BODYSTRUCTURE and BODY (RFC 3501 7.4.2, RFC 9051 7.5.2). *Pure.*"""

from __future__ import annotations

from collections.abc import Sequence

from restante_mail.header.address_list import Tokens
from restante_mail.header.fields import content_value
from restante_mail.header.summary import envelope, nstring, read_header
from restante_mail.limits import DEFAULT_LIMITS, Limits
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
    done: dict[int, tuple[str, str]] = {}
    tokens = Tokens(limits.address_tokens)
    for part in reversed(list(tree.walk())):
        below = [done.pop(id(child)) for child in part.children]
        if part.is_multipart and below:
            done[id(part)] = _multipart(part, below)
        elif part.is_message and below:
            done[id(part)] = _message(buffer, part, below[0], limits, tokens)
        else:
            done[id(part)] = _leaf(part)
    return done[id(tree)]


def _multipart(part: Part, below: list[tuple[str, str]]) -> tuple[str, str]:
    subtype = nstring(part.media_type.partition("/")[2])
    extension = f"{_parameters(part.type_value.parameters)} {_common_extension(part)}"
    inside = "".join(full for full, _short in below)
    return f"({inside} {subtype} {extension})", f"({''.join(short for _full, short in below)} {subtype})"


def _message(buffer: Buffer, part: Part, below: tuple[str, str], limits: Limits, tokens: Tokens) -> tuple[str, str]:
    """An embedded message: its ENVELOPE, body structure and lines follow the basic fields."""
    inner = part.children[0]
    end = min(inner.body_start, inner.header_start + limits.header_octets)
    summary = envelope(read_header(take(buffer, inner.header_start, end), limits, tokens)).decode("latin-1")
    basic = _basic(part)
    full = f"({basic} {summary} {below[0]} {part.lines} {_leaf_extension(part)})"
    return full, f"({basic} {summary} {below[1]} {part.lines})"


def _leaf(part: Part) -> tuple[str, str]:
    short = _basic(part)
    if part.media_type.startswith("text/"):
        short = f"{short} {part.lines}"
    return f"({short} {_leaf_extension(part)})", f"({short})"


def _basic(part: Part) -> str:
    """The fields of every part except a multipart: type, subtype, parameters, id, description, encoding, octets."""
    kind, _, subkind = part.media_type.partition("/")
    content = part.content
    parameters = part.type_value.parameters if "type" in content else ()
    if part.media_type == "text/plain" and not any(name.lower() == "charset" for name, _value in parameters):
        parameters = (*parameters, ("charset", "us-ascii"))  # RFC 2046 4.1.2
    return (
        f"{nstring(kind)} {nstring(subkind)} {_parameters(parameters)} {nstring(content.get('id'))} "
        f"{nstring(content.get('description'))} {nstring(part.encoding)} {part.octets}"
    )


def _leaf_extension(part: Part) -> str:
    return f"{nstring(part.content.get('md5'))} {_common_extension(part)}"


def _common_extension(part: Part) -> str:
    """Disposition, language and location."""
    content = part.content
    if not content:
        return "NIL NIL NIL"
    disposition, language = _disposition(part), _language(part.languages) if "language" in content else "NIL"
    return f"{disposition} {language} {nstring(content.get('location'))}"


def _disposition(part: Part) -> str:
    kind = part.disposition
    if not kind:
        return "NIL"
    return f"({nstring(kind)} {_parameters(content_value(part.content['disposition']).parameters)})"


def _language(tags: Sequence[str]) -> str:
    if not tags:
        return "NIL"
    return nstring(tags[0]) if len(tags) == 1 else f"({' '.join(map(nstring, tags))})"


def _parameters(pairs: Sequence[tuple[str, str]]) -> str:
    """Parameters with lower-case names and raw values. Those split by RFC 2231 stay split, as clients expect."""
    if not pairs:
        return "NIL"
    return "(" + " ".join(f"{nstring(name.lower())} {nstring(value)}" for name, value in pairs) + ")"
