"""Sealing of messages that are forwarded (RFC 8617 5.1). *Pure.*"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime

from restante_mail.authentication.arc.sets import (
    MOST_SETS,
    ChainBroken,
    latest_instance,
    latest_seal_failed,
    read_chain,
    set_octets,
)
from restante_mail.authentication.dkim.canonicalization import Canonicalization, relaxed_field
from restante_mail.authentication.dkim.content import BodyHash, Content, HeaderFields
from restante_mail.authentication.dkim.sign import (
    LINE_OCTETS,
    HeaderTooLong,
    folded,
    shown,
    signed_field,
    signed_names,
    time_tags,
    with_signature,
)
from restante_mail.authentication.dkim.signing_keys import SigningKey
from restante_mail.authentication.results import Result

__all__ = ["Sealer", "seal"]

_RELAXED = Canonicalization.RELAXED


class Sealer:
    """The sealing of one message: `feed` its octets, then `finish` gives the three fields of a set."""

    def __init__(
        self,
        key: SigningKey,
        now: datetime,
        chain: Result,
        authentication_results: str,
        names: Sequence[bytes] | None = None,
    ) -> None:
        """`chain` is the result of the chain as the message came: none, pass or fail (cv=).

        `authentication_results` is a value as in Authentication-Results, which begins with the authserv-id (ASCII).
        `names` are the names of h= in lower case, when other fields than usual are signed.
        """
        if chain not in (Result.NONE, Result.PASS, Result.FAIL):
            raise ValueError(f"no chain is sealed with {chain.value}")
        self._key, self._now, self._chain, self._names = key, now, chain, names
        self._results = authentication_results
        self._content = Content()
        self._content.on_header(self._header_came)
        self._body: BodyHash | None = None

    def feed(self, octets: bytes) -> None:
        """The next octets of the message, with CRLF line ends, in pieces of any size."""
        self._content.feed(octets)

    def finish(self) -> bytes:
        """ARC-Seal, ARC-Message-Signature and ARC-Authentication-Results, to be put before the message.

        They are empty where no set may follow: after cv=fail (RFC 8617 5.1.2), and after 50 sets. Raises HeaderTooLong,
        and ValueError for a result that is not that of this header, such as none for a header with ARC fields.
        """
        self._content.finish()
        header = self._content.header
        if header is None or self._body is None:
            raise HeaderTooLong("the header is too long to be sealed")
        instance = latest_instance(header) + 1
        if instance > MOST_SETS or latest_seal_failed(header):
            return b""
        earlier = self._earlier(header, instance)
        results = self._results_field(instance)
        signature = self._message_signature(header, instance, self._body.digest())
        return self._seal(instance, earlier + relaxed_field(results) + relaxed_field(signature)) + signature + results

    def _header_came(self, header: HeaderFields) -> None:
        self._body = self._content.body_hash(_RELAXED)

    def _earlier(self, header: HeaderFields, instance: int) -> bytes:
        """The canonical fields of earlier sets that the seal covers: none where the chain has failed."""
        if self._chain is Result.FAIL:
            return b""
        if (self._chain is Result.NONE) != (instance == 1):
            raise ValueError(f"{self._chain.value} is not the result of a chain of {instance - 1} sets")
        try:
            return b"".join(set_octets(header, each.fields) for each in read_chain(header))
        except ChainBroken as problem:
            raise ValueError(f"the chain cannot have passed: {problem}") from None

    def _results_field(self, instance: int) -> bytes:
        line, lines = f"ARC-Authentication-Results: i={instance};", list[str]()
        for word in self._results.split():
            if len(line) + 1 + len(word) > LINE_OCTETS:
                lines.append(line)
                line = ""
            line += " " + word
        return "\r\n".join([*lines, line, ""]).encode("ascii")

    def _message_signature(self, header: HeaderFields, instance: int, body_hash: bytes) -> bytes:
        names = self._names if self._names is not None else _signed(header)
        tags = [("i", str(instance)), ("a", self._key.algorithm), ("c", "relaxed/relaxed"), ("d", self._key.domain)]
        tags += [("s", self._key.selector), *time_tags(self._now, None)]
        tags += [("h", ":".join(map(shown, names))), ("bh", b64encode(body_hash).decode("ascii"))]
        return signed_field(b"ARC-Message-Signature", tags, self._key, header, names, _RELAXED)

    def _seal(self, instance: int, covered: bytes) -> bytes:
        tags = [("i", str(instance)), ("a", self._key.algorithm), *time_tags(self._now, None)]
        tags += [("cv", self._chain.value), ("d", self._key.domain), ("s", self._key.selector), ("b", "")]
        field = folded(b"ARC-Seal", tags)
        digest = hashlib.sha256(covered + relaxed_field(field).removesuffix(b"\r\n")).digest()
        return with_signature(field, self._key.sign(digest))


def seal(
    content: bytes | Iterable[bytes], key: SigningKey, now: datetime, chain: Result, authentication_results: str
) -> bytes:
    """The three fields of a new set for a message, given whole or in pieces. See Sealer."""
    sealer = Sealer(key, now, chain, authentication_results)
    for octets in (content,) if isinstance(content, bytes) else content:
        sealer.feed(octets)
    return sealer.finish()


def _signed(header: HeaderFields) -> list[bytes]:
    """The fields that a DKIM signature signs, and the DKIM signatures themselves (RFC 8617 4.1.2)."""
    return signed_names(header) + [b"dkim-signature"] * len(header.named(b"dkim-signature"))
