"""Verification of DKIM signatures while the message comes (RFC 6376 6). *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from restante_mail.authentication.compute import Compute, at_once
from restante_mail.authentication.dkim.content import BodyHash, Content, HeaderField, HeaderFields
from restante_mail.authentication.dkim.records import KeyRecord, KeyRefused, key_of, verifies
from restante_mail.authentication.dkim.signatures import (
    MOST_FIELD_OCTETS,
    Signature,
    domain_name,
    read_signature,
    signature_starts,
    signed_digest,
    untimely,
)
from restante_mail.authentication.dkim.tags import TagError, TagList, read_tags, words_of
from restante_mail.authentication.dns import Dns, DnsFailure
from restante_mail.authentication.results import DkimResult, Result

__all__ = ["MOST_SIGNATURES", "Verifier"]

MOST_SIGNATURES = 10  # of one message that are verified, from the top: the latest ones
_FIELD = b"dkim-signature"
_IDENTITY_CHARACTERS = 640  # of i=, whose local part is quoted
_KNOWN = ("rsa-sha1", "rsa-sha256", "ed25519-sha256")  # values of a= that results name


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A signature of the message. `result` is final when `signature` is None, else it has its identities."""

    field: HeaderField
    tags: TagList
    result: DkimResult
    signature: Signature | None = None
    body: BodyHash | None = None


class Verifier:
    """The verification of one message: `feed` its octets, call `finish`, then await `results`.

    With a `content` that other readers share, feed that one instead.
    """

    def __init__(self, content: Content | None = None, most_signatures: int = MOST_SIGNATURES) -> None:
        self.content = content or Content()
        self._most = most_signatures
        self._candidates: list[_Candidate] = []
        self._left_out = 0
        self.content.on_header(self._header_came)

    def feed(self, octets: bytes) -> None:
        """The next octets of the message, with CRLF line ends, in pieces of any size."""
        self.content.feed(octets)

    def finish(self) -> None:
        """The message has ended."""
        self.content.finish()

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """The signatures that will be verified, as soon as the header is complete."""
        return tuple(each.signature for each in self._candidates if each.signature is not None)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of the TXT records that `results` will ask for, as soon as the header is complete."""
        return tuple(dict.fromkeys(each.signer.key_name for each in self.signatures))

    async def results(self, dns: Dns, now: datetime, compute: Compute = at_once) -> tuple[DkimResult, ...]:
        """One result for each signature, from the top of the message. `now` is aware; `compute` runs the computations.

        No signature gives (). One more result says how many signatures were left out. Raises nothing of the DNS.
        """
        assert self.content.finished, "finish() comes first"
        if self.content.header_too_long:
            return (DkimResult(Result.POLICY, problem="the header is too long"),)
        found = [await self._result(each, dns, now, compute) for each in self._candidates]
        if self._left_out:
            found.append(DkimResult(Result.POLICY, problem=f"{self._left_out} more signatures were not verified"))
        return tuple(found)

    def _header_came(self, header: HeaderFields) -> None:
        fields = header.named(_FIELD)
        self._left_out = max(0, len(fields) - self._most)
        read = [_candidate(each) for each in fields[: self._most]]
        starts = signature_starts(each.tags.values.get("b", "") for each in read)
        for each, start in zip(read, starts, strict=True):
            body = None
            if each.signature is not None:
                body = self.content.body_hash(each.signature.body_form, each.signature.length)
            self._candidates.append(replace(each, body=body, result=replace(each.result, signature_start=start)))

    async def _result(self, candidate: _Candidate, dns: Dns, now: datetime, compute: Compute) -> DkimResult:
        signature, result = candidate.signature, candidate.result
        if signature is None or candidate.body is None:
            return result
        if late := untimely(signature, now):
            return replace(result, result=Result.PERMERROR, problem=late)
        try:
            key = await key_of(signature.signer, dns)
        except DnsFailure as failure:
            return replace(result, result=Result.TEMPERROR, problem=str(failure) or "the key cannot be looked up now")
        except KeyRefused as refused:
            return replace(result, result=refused.result, problem=refused.problem)
        return await compute(
            partial(self._judged, candidate.field, candidate.tags, signature, candidate.body, key, result)
        )

    def _judged(
        self,
        field: HeaderField,
        tags: TagList,
        signature: Signature,
        body: BodyHash,
        key: KeyRecord,
        result: DkimResult,
    ) -> DkimResult:
        result = replace(result, key_bits=key.bits, testing=key.testing, partial=body.partial)
        if key.strict and result.identity.rpartition("@")[2] != result.domain:
            return replace(result, result=Result.PERMERROR, problem="i= is not at d=, as t=s of the key demands")
        if body.digest() != signature.body_hash:
            return replace(result, result=Result.FAIL, problem="the body has another hash than bh=")
        if signature.length is not None and signature.length > body.octets:
            return replace(result, result=Result.PERMERROR, problem="l= is larger than the body")
        header = self.content.header
        assert header is not None
        digest = signed_digest(header, signature, field, tags)
        if not verifies(key.key, signature.signer.signature, digest):
            return replace(result, result=Result.FAIL, problem="the signature does not fit the header")
        return replace(result, result=Result.PASS)


def _candidate(field: HeaderField) -> _Candidate:
    """A signature field, read and checked; its result is final when a tag is not valid (RFC 6376 6.1.1)."""
    tags = TagList({}, {})
    try:
        tags = read_tags(field.value, MOST_FIELD_OCTETS)
        signature = _checked(tags)
        identity = _identity(tags, signature.signer.domain)
    except TagError as problem:
        return _Candidate(field, tags, _named(tags, Result.PERMERROR, str(problem)))
    signer = signature.signer
    result = DkimResult(Result.NONE, signer.domain, signer.selector, identity, signer.algorithm.name)
    return _Candidate(field, tags, result, signature)


def _named(tags: TagList, result: Result, problem: str) -> DkimResult:
    """A result without a valid signature, with the names in it that are valid."""
    domain = domain_name(tags.values.get("d", "")) or ""
    selector = domain_name(tags.values.get("s", "")) or ""
    algorithm = tags.values.get("a", "")
    return DkimResult(
        result,
        domain,
        selector,
        "@" + domain if domain else "",
        algorithm if algorithm in _KNOWN else "",
        problem=problem,
    )


def _checked(tags: TagList) -> Signature:
    """The signature, which signs From. Raises TagError."""
    if tags.required("v") != "1":
        raise TagError("v= is not 1")
    signature = read_signature(tags)
    if b"from" not in signature.names:
        raise TagError("h= does not have From")
    if "dns/txt" not in words_of(tags.values.get("q", "dns/txt")):
        raise TagError("q= does not have dns/txt")
    return signature


def _identity(tags: TagList, domain: str) -> str:
    """i= with its domain in A-labels, or its default. Raises TagError."""
    value = tags.values.get("i")
    if value is None:
        return "@" + domain
    local, at, name = value.rpartition("@")
    of = domain_name(name)
    if not at or of is None or len(value) > _IDENTITY_CHARACTERS:
        raise TagError("i= is no address")
    if of != domain and not of.endswith("." + domain):
        raise TagError("i= is not under d=")
    return f"{local}@{of}"
