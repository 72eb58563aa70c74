"""Validation of an ARC chain while the message comes (RFC 8617 5.2). *Pure.*"""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import partial

from restante_mail.authentication.arc.sets import ArcSet, ChainBroken, read_chain, set_octets
from restante_mail.authentication.compute import Compute, at_once
from restante_mail.authentication.dkim.canonicalization import Canonicalization
from restante_mail.authentication.dkim.content import BodyHash, Content, HeaderFields
from restante_mail.authentication.dkim.records import KeyRefused, key_of, verifies
from restante_mail.authentication.dkim.signatures import signed_digest, unsigned_field, untimely
from restante_mail.authentication.dns import Dns, DnsFailure
from restante_mail.authentication.results import ArcResult, Result

__all__ = ["ArcValidator"]


class ArcValidator:
    """The validation of one chain. It reads the `content` that the DKIM Verifier of the message reads, too.

    content = Content()
    verifier, validator = Verifier(content), ArcValidator(content)
    content.feed(octets)
    content.finish()
    await validator.result(dns, now)
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        self._sets: tuple[ArcSet, ...] = ()
        self._bodies: list[BodyHash | None] = []
        self._problem = ""
        content.on_header(self._header_came)

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of the TXT records that `result` may ask for, as soon as the header is complete."""
        signers = [signer for each in self._sets for signer in (each.signature.signer, each.sealer)]
        return tuple(dict.fromkeys(signer.key_name for signer in signers))

    async def result(self, dns: Dns, now: datetime, compute: Compute = at_once) -> ArcResult:
        """The result of the chain, after the end of the message. `now` is aware; `compute` runs the computations.

        Raises nothing of the DNS.
        """
        assert self._content.finished, "finish() comes first"
        if self._content.header_too_long:
            return ArcResult(Result.FAIL, problem="the header is too long")
        if self._problem or not self._sets:
            return ArcResult(Result.FAIL if self._problem else Result.NONE, problem=self._problem)
        try:
            problem = await self._signature_problem(self._sets[-1], dns, now, compute) or await self._seals_problem(
                dns, compute
            )
            if problem:
                return ArcResult(Result.FAIL, problem=problem)
        except DnsFailure as failure:
            return ArcResult(Result.TEMPERROR, problem=str(failure) or "a key cannot be looked up now")
        return ArcResult(
            Result.PASS,
            tuple(each.sealer.domain for each in self._sets),
            await self._oldest_pass(dns, now, compute),
            tuple(each.results for each in self._sets),
        )

    def _header_came(self, header: HeaderFields) -> None:
        try:
            self._sets = read_chain(header)
        except ChainBroken as problem:
            self._problem = str(problem)
            return
        if self._sets and self._sets[-1].chain_validation == "fail":
            self._problem = f"cv=fail in set {len(self._sets)}"
            self._sets = ()
        # Only the latest signature counts for the result. An earlier one with l= would need a hash of its own.
        for each in self._sets:
            signature = each.signature
            wanted = each is self._sets[-1] or signature.length is None
            body = self._content.body_hash(signature.body_form, signature.length) if wanted else None
            self._bodies.append(body)

    async def _signature_problem(self, arc_set: ArcSet, dns: Dns, now: datetime, compute: Compute) -> str:
        """The reason why the message signature of a set does not pass, or "". Raises DnsFailure."""
        signature, body, header = arc_set.signature, self._bodies[arc_set.instance - 1], self._content.header
        assert header is not None
        name = f"message signature {arc_set.instance}: "
        if late := untimely(signature, now):
            return name + late
        if body is None or body.digest() != signature.body_hash:
            return name + "the body has another hash than bh="
        try:
            record = await key_of(signature.signer, dns)
        except KeyRefused as refused:
            return name + refused.problem

        def fits() -> bool:
            digest = signed_digest(header, signature, arc_set.fields[1], arc_set.signature_tags)
            return verifies(record.key, signature.signer.signature, digest)

        return "" if await compute(fits) else name + "the signature does not fit the header"

    async def _seals_problem(self, dns: Dns, compute: Compute) -> str:
        """The reason why one of the seals does not pass, or "". Raises DnsFailure."""
        digests = await compute(self._seal_digests)
        for arc_set, digest in zip(reversed(self._sets), reversed(digests), strict=True):
            try:
                record = await key_of(arc_set.sealer, dns)
            except KeyRefused as refused:
                return f"seal {arc_set.instance}: {refused.problem}"
            if not await compute(partial(verifies, record.key, arc_set.sealer.signature, digest)):
                return f"seal {arc_set.instance}: the signature does not fit the chain"
        return ""

    def _seal_digests(self) -> list[bytes]:
        """The digests that the seals sign. Each covers the sets before it, so that one running hash serves all."""
        header = self._content.header
        assert header is not None
        digests, running = list[bytes](), hashlib.sha256()
        for arc_set in self._sets:
            results, signature, seal = arc_set.fields
            running.update(set_octets(header, (results, signature)))
            own = running.copy()
            own.update(unsigned_field(seal, arc_set.seal_tags, Canonicalization.RELAXED))
            digests.append(own.digest())
            running.update(set_octets(header, (seal,)))
        return digests

    async def _oldest_pass(self, dns: Dns, now: datetime, compute: Compute) -> int:
        """The oldest instance from which on all message signatures pass; 0 if all do (RFC 8617 5.2 step 5).

        An earlier signature with l= does not pass here.
        """
        for arc_set in reversed(self._sets[:-1]):
            try:
                if await self._signature_problem(arc_set, dns, now, compute):
                    return arc_set.instance + 1
            except DnsFailure:
                return arc_set.instance + 1
        return 0
