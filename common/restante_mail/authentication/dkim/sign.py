"""Signing of messages that leave (RFC 6376 5, RFC 8058 4). *Pure.*"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from restante_mail.authentication.dkim.canonicalization import Canonicalization, relaxed_field
from restante_mail.authentication.dkim.content import BodyHash, Content, HeaderFields
from restante_mail.authentication.dkim.signing_keys import SigningKey

__all__ = [
    "DEFAULT_FORM",
    "LINE_OCTETS",
    "Form",
    "HeaderTooLong",
    "Signer",
    "folded",
    "shown",
    "sign",
    "signed_field",
    "signed_names",
    "time_tags",
    "with_signature",
]

LINE_OCTETS = 78  # of a written line, where its words allow it (RFC 5322 2.1.1)
MOST_NAMES = 500  # in h=

_OVERSIGNED = (b"from", b"to", b"cc", b"subject", b"date")
_SIGNED = frozenset((b"reply-to", b"sender", b"message-id", b"in-reply-to", b"references", b"mime-version"))
_SIGNED_PREFIXES = (b"content-", b"list-", b"resent-")


class HeaderTooLong(ValueError):
    """The header is longer than a signature can cover."""


@dataclass(frozen=True, slots=True)
class Form:
    """The canonicalization of header and body, c=."""

    header: Canonicalization = Canonicalization.RELAXED
    body: Canonicalization = Canonicalization.RELAXED

    def __str__(self) -> str:
        return f"{self.header.value}/{self.body.value}"


DEFAULT_FORM = Form()


class Signer:
    """The signing of one message: `feed` its octets, then `finish` gives the fields."""

    def __init__(
        self,
        keys: Sequence[SigningKey],
        now: datetime,
        *,
        lifetime: timedelta | None = None,
        form: Form = DEFAULT_FORM,
    ) -> None:
        """`now` is aware and becomes t=. With a `lifetime`, x= is that much later."""
        self._keys, self._form, self._now, self._lifetime = keys, form, now, lifetime
        self._content = Content()
        self._content.on_header(self._header_came)
        self._body: BodyHash | None = None

    def feed(self, octets: bytes) -> None:
        """The next octets of the message, with CRLF line ends, in pieces of any size."""
        self._content.feed(octets)

    def finish(self) -> bytes:
        """One DKIM-Signature field for each key, each with its CRLF, to be put before the message.

        Raises HeaderTooLong.
        """
        self._content.finish()
        header = self._content.header
        if header is None or self._body is None:
            raise HeaderTooLong("the header is too long to be signed")
        names, body_hash = signed_names(header), self._body.digest()
        return b"".join(self._field(key, header, names, body_hash) for key in self._keys)

    def _header_came(self, header: HeaderFields) -> None:
        self._body = self._content.body_hash(self._form.body)

    def _field(self, key: SigningKey, header: HeaderFields, names: Sequence[bytes], body_hash: bytes) -> bytes:
        tags = [("v", "1"), ("a", key.algorithm), ("c", str(self._form)), ("d", key.domain), ("s", key.selector)]
        tags += time_tags(self._now, self._lifetime)
        tags += [("h", ":".join(shown(name) for name in names)), ("bh", b64encode(body_hash).decode("ascii"))]
        return signed_field(b"DKIM-Signature", tags, key, header, names, self._form.header)


def sign(
    content: bytes | Iterable[bytes],
    keys: Sequence[SigningKey],
    now: datetime,
    *,
    lifetime: timedelta | None = None,
    form: Form = DEFAULT_FORM,
) -> bytes:
    """The DKIM-Signature fields of a message, given whole or in pieces. See Signer."""
    signer = Signer(keys, now, lifetime=lifetime, form=form)
    for octets in (content,) if isinstance(content, bytes) else content:
        signer.feed(octets)
    return signer.finish()


def signed_names(header: HeaderFields) -> list[bytes]:
    """The names of h= in lower case, one for each present field that is signed.

    From, To, Cc, Subject and Date are there once more, so that nobody can add another one (RFC 6376 8.15).
    """
    names = [name for name in _OVERSIGNED for _ in range(len(header.named(name)) + 1)]
    others = [each.name for each in header.fields if each.name in _SIGNED or each.name.startswith(_SIGNED_PREFIXES)]
    return (names + others)[:MOST_NAMES]


def time_tags(now: datetime, lifetime: timedelta | None) -> list[tuple[str, str]]:
    """t=, and x= for a lifetime."""
    created = int(now.timestamp())
    expires = [] if lifetime is None else [("x", str(created + max(1, int(lifetime.total_seconds()))))]
    return [("t", str(created)), *expires]


def signed_field(
    name: bytes,
    tags: Sequence[tuple[str, str]],
    key: SigningKey,
    header: HeaderFields,
    names: Sequence[bytes],
    form: Canonicalization,
) -> bytes:
    """The field of these tags and of b=, folded, with its CRLF. It signs the named fields and itself."""
    field = folded(name, [*tags, ("b", "")])
    digest = hashlib.sha256(b"".join(header.chosen(tuple(names), form)))
    own = relaxed_field(field) if form is Canonicalization.RELAXED else field
    digest.update(own.removesuffix(b"\r\n"))
    return with_signature(field, key.sign(digest.digest()))


def with_signature(field: bytes, signature: bytes) -> bytes:
    """A folded field that ends with an empty b=, with this signature."""
    line = field.removesuffix(b"\r\n")
    used = len(line) - line.rfind(b"\n") - 1
    return line + _broken(b64encode(signature), used) + b"\r\n"


def folded(name: bytes, tags: Sequence[tuple[str, str]]) -> bytes:
    """A field of these tags in lines of at most 78 octets, where a word is not longer; with its CRLF."""
    out, used = bytearray(name + b":"), len(name) + 1
    for place, (tag, value) in enumerate(tags):
        start = f" {tag}=".encode("ascii")
        end = b"" if place == len(tags) - 1 else b";"
        words = [word.encode("ascii") for word in value.replace(":", ":\0").split("\0")]
        if used + len(start) + len(words[0]) + len(end) > LINE_OCTETS and not out.endswith(b"\n"):
            out += b"\r\n"
            used = 0
        out += start
        used += len(start)
        for at, word in enumerate(words):
            if at and used + len(word) + len(end) > LINE_OCTETS:
                out += b"\r\n "
                used = 1
            out += word
            used += len(word)
        out += end
        used += len(end)
    return bytes(out + b"\r\n")


def shown(name: bytes) -> str:
    """A field name as h= shows it: `message-id` as `Message-ID`."""
    title = name.decode("ascii").title().replace("Mime-", "MIME-")
    return title.removesuffix("-Id") + "-ID" if title.endswith("-Id") else title


def _broken(text: bytes, used: int) -> bytes:
    """Base64 text in folded lines; the first one has `used` octets before it."""
    room = max(LINE_OCTETS - used, 0)
    lines = [text[:room]] + [text[at : at + LINE_OCTETS - 1] for at in range(room, len(text), LINE_OCTETS - 1)]
    return b"\r\n ".join(lines)
