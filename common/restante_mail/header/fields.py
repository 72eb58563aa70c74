"""Header blocks: fields with offsets, structured values, and selection of fields (RFC 5322 2.2, RFC 2045 5). *Pure.*

Values are `str` with one character for each octet (latin-1), which loses nothing; `words.py` decodes them to text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache, wraps
from typing import NamedTuple, TypeVar

from restante_mail.header.comments import comment_end, without_comments
from restante_mail.octets import Buffer, find, take
from restante_mail.text.charsets import decode

__all__ = [
    "Field",
    "content_value",
    "fields",
    "header_end",
    "header_fields",
    "kept",
    "message_ids",
    "raw_fields",
    "transfer_encoding",
    "unfold",
]


Value = TypeVar("Value")


class Field(NamedTuple):
    """One field of a block: `name` in its own spelling, octets [start, end) including folds and the last CRLF; the
    value begins at `value_start`."""

    name: bytes
    start: int
    value_start: int
    end: int


# A line with a name of printable ASCII, white space (obsolete) and a colon; then folded lines. RFC 5322 2.2, 4.5.
_FIELD = re.compile(rb"\n([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)")
_TO_ITS_END = rb"[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+"
_WHOLE_FIELD = re.compile(rb"(\n([!-9;-~]++)" + _TO_ITS_END + rb")")
_NAME = re.compile(r"[!-9;-~]++")
_MOST_IN_PATTERN = 32  # field names; compiling more takes milliseconds
_SPACE = " \t\r\n"
_FOLD = re.compile(r"\r?\n(?=[ \t])")
# From an escape to a Japanese set up to the escape back to ASCII, or up to the end of the value.
_ISO_2022_JP = re.compile(r"\x1b(?:\$[@B]|\$\([@BD]|\(I)(?:[^\x1b]|\x1b(?!\([BJ]))*+(?:\x1b\([BJ])?")
_MESSAGE_ID = re.compile(r"<([^<>\x00-\x20\x7f]{1,998})>")
_BARE_ID = re.compile(r"[^<>\s,;()\x00-\x20\x7f]{1,998}")
_TYPE = re.compile(r"\s*+([^\s;,=\"()<>@\[\]\\/]++)\s*+(?:/\s*+([^\s;,=\"()<>@\[\]\\/]++))?")
_PARAMETER = re.compile(
    r";\s*+([^\s;=\"(),<>@\[\]\\/:?]++)\s*+=\s*+(?:\"((?:[^\"\\]|\\.)*+)(?:\"[^;]*+|\\?$)|([^;]*+))", re.DOTALL
)
# After a type: an equals sign after it or after the next word, which is then the name of a parameter.
_FIRST_PARAMETER = re.compile(r"\s*+(=)|\s++[^\s;=\"(),<>@\[\\\]/:?]++\s*+=")
_NAME_PIECE = re.compile(r"(?:;|\A)\s*+(?:file)?name[^=;\s]*+\s*+=\s*+[^\s\"(;][^;]*+", re.IGNORECASE)
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?$)|[^(";]++|[";]', re.DOTALL)
_ENCODINGS = {"7bit": "7bit", "8bit": "8bit", "binary": "binary", "base64": "base64"}
_ENCODINGS["quotedprintable"] = "quoted-printable"
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_SHORT_VALUE = 256  # characters of a value whose parsed form is kept


def fields(block: bytes) -> Iterator[Field]:
    """The fields of a header block in order. Other lines (an mbox `From `, junk) are ignored."""
    if block:
        for match in _FIELD.finditer(b"\n" + block):  # the prepended octet shifts offsets by one
            end = match.end()
            yield Field(match[1], match.start(), match.start(2) - 1, min(end, len(block)))


def header_end(content: Buffer) -> int:
    """The offset after the blank line that ends the header; the length of the content if it has none."""
    if take(content, 0, 2) == b"\r\n":
        return 2
    blank = find(content, b"\r\n\r\n", 0, len(content))
    return len(content) if blank < 0 else blank + 4


def raw_fields(block: bytes, names: re.Pattern[str], longest: int) -> dict[str, list[str]]:
    """{lower-case name: raw unfolded values in order} of the fields that match `names` (see `wanted`), without fields
    of more than `longest` octets."""
    found: dict[str, list[str]] = {}
    for name, value in names.findall("\n" + block.decode("latin-1")):
        if len(value) <= longest:
            plain = "\n" not in value and "\x1b" not in value
            found.setdefault(name.lower(), []).append(value.strip(_SPACE) if plain else _unfolded(value))
    return found


def wanted(names: str) -> re.Pattern[str]:
    """The pattern of these field names, separated by spaces, in any letter case, for `raw_fields`."""
    alternatives = "|".join(re.escape(name) for name in names.split())
    return re.compile(rf"\n({alternatives})[ \t]*+:[ \t]*+([^\n]*+(?:\n[ \t][^\n]*+)*+)", re.IGNORECASE | re.ASCII)


def unfold(value: bytes) -> str:
    """A raw value in one line (RFC 5322 2.2.3), one character for each octet, without surrounding white space.

    Converts runs of raw ISO-2022-JP (RFC 1468), which old Japanese programs send, to UTF-8: their octets look like
    quotes, commas and brackets, and no charset is declared.
    """
    return _unfolded(value.decode("latin-1"))


def _unfolded(text: str) -> str:
    if "\n" in text:
        text = _FOLD.sub("", text)
    if "\x1b" in text:
        text = _ISO_2022_JP.sub(_as_utf_8, text)
    return text.strip(_SPACE)


def _as_utf_8(run: re.Match[str]) -> str:
    return decode(run[0].encode("latin-1"), "iso-2022-jp").encode().decode("latin-1")


class StructuredValue(NamedTuple):
    """`kind[/subkind]; name=value...` in its own letter case; parameters in order, quoting removed."""

    kind: str
    subkind: str
    parameters: tuple[tuple[str, str], ...]


def kept(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """`parse`, which keeps the results for short values: the same few are in all mail, several times for a part."""
    known = lru_cache(maxsize=4_096)(parse)

    @wraps(parse)
    def parsed(raw: str) -> Value:
        return known(raw) if len(raw) <= _SHORT_VALUE else parse(raw)

    return parsed


@kept
def content_value(raw: str) -> StructuredValue:
    """Parse Content-Type, Content-Disposition and similar values (RFC 2045 5.1, RFC 2183 2). Accepts comments, doubled
    semicolons, unquoted values with spaces and missing closing quotes, which all occur."""
    if "(" in raw:
        raw = _without_comments(raw)
    head = _TYPE.match(raw)
    kind, subkind, at = (head[1], head[2] or "", head.end()) if head else ("", "", 0)
    following = _FIRST_PARAMETER.match(raw, at)
    if following is not None and following[1] == "=":  # no type: the word is the name of a parameter
        kind, subkind, raw, at = "", "", ";" + raw, 0
    elif following is not None:  # a semicolon is missing
        raw = raw[:at] + ";" + raw[at:]
    else:
        at = raw.find(";")
    if at < 0:
        return StructuredValue(kind, subkind, ())
    parameters: list[tuple[str, str]] = []
    for match in _PARAMETER.finditer(raw, at):
        name, quoted, plain = match.groups()
        if quoted is not None:
            value = _PAIR.sub(r"\1", quoted) if "\\" in quoted else quoted
        else:
            value = plain.strip()
        parameters.append((name, value))
    return StructuredValue(kind, subkind, tuple(parameters))


def _without_comments(raw: str) -> str:
    """`raw` without comments. A bracket does not begin a comment in a quoted string, nor in an unquoted file name such
    as name=a (1).txt."""
    out: list[str] = []
    at = 0
    while at < len(raw):
        piece = _NAME_PIECE.match(raw, at) or _PIECE.match(raw, at)
        if piece is not None:
            out.append(piece[0])
            at = piece.end()
        else:
            at = comment_end(raw, at)
            out.append(" ")
    return "".join(out)


@kept
def transfer_encoding(raw: str) -> str:
    """Content-Transfer-Encoding in lower case, "7bit" for an empty value (RFC 2045 6.1). Accepts spellings such as
    `8 bit` and words after the encoding."""
    words = without_comments(raw).partition(";")[0].lower().replace('"', " ").split()
    together = _ENCODINGS.get("".join(words).replace("-", ""))
    return together or _ENCODINGS.get(words[0].replace("-", ""), words[0]) if words else "7bit"


def message_ids(raw: str, limit: int = 1_000) -> tuple[str, ...]:
    """The ids of Message-ID, In-Reply-To or References in order, without angle brackets, at most the last `limit`.

    RFC 5322 3.6.4. If a value has no bracket, its words with "@" count: some programs omit the brackets.
    """
    found = _MESSAGE_ID.findall(raw)
    if not found and "<" not in raw:
        found = [word for word in _BARE_ID.findall(raw) if "@" in word]
    return tuple(found[-limit:])


def header_fields(block: bytes, names: Collection[str], exclude: bool = False) -> bytes:
    """The fields with these names (or all others), unchanged and in order, with a final blank line.

    RFC 3501 6.4.5, HEADER.FIELDS and HEADER.FIELDS.NOT: folding is kept, names compare case-insensitively.
    """
    if block.startswith(b"\r\n"):
        return b"\r\n"
    searched = b"\n" + block if block.endswith(b"\n") else b"\n" + block + b"\r\n"
    if exclude or len(names) > _MOST_IN_PATTERN:
        chosen = {name.lower().encode() for name in names if _NAME.fullmatch(name)}
        found = [whole for whole, name in _WHOLE_FIELD.findall(searched) if (name.lower() in chosen) != exclude]
    else:
        found = _these_fields(tuple(names)).findall(searched)
    return b"".join([*found, b"\n\r\n"])[1:] if found else b"\r\n"


@lru_cache(maxsize=256)
def _these_fields(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """The pattern of whole fields with these names, each with the line end before it instead of its own.

    Names are grouped by their first letter: `re` then tries a name only where its first letter is.
    """
    by_first: dict[str, list[str]] = {}
    for name in names:
        if _NAME.fullmatch(name):
            by_first.setdefault(name[0].lower(), []).append(re.escape(name[1:]))
    groups = [f"[{re.escape(first + first.upper())}](?i:{'|'.join(rest)})" for first, rest in by_first.items()]
    return re.compile(rb"\n(?:" + ("|".join(groups) or "(?!)").encode() + rb")" + _TO_ITS_END)
