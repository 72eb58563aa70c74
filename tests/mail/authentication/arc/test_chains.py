"""Chains that are sealed here and validated again (RFC 8617)."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import timedelta

import dkim
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.arc.seal import seal
from restante_mail.authentication.arc.validate import ArcValidator
from restante_mail.authentication.dkim.content import MOST_HEADER_OCTETS, Content
from restante_mail.authentication.dkim.sign import HeaderTooLong, sign
from restante_mail.authentication.dkim.signing_keys import SigningKey, public_record
from restante_mail.authentication.dkim.verify import Verifier
from restante_mail.authentication.dns import Dns
from restante_mail.authentication.results import ArcResult, Result
from tests.mail.authentication.dkim.answers import NOW, key, published, txt_records

ED25519, RSA = key("ed25519-sha256"), key()
OTHER = key("rsa-sha256", "example.net")
MESSAGE = b"From: bob@example.org\r\nTo: list@example.net\r\nSubject: Hello\r\n\r\nHello\r\n"
RESULTS = "mx.example.net; spf=pass smtp.mailfrom=bob@example.org; dkim=none; dmarc=pass header.from=example.org"


def validated(content: bytes, dns: Dns) -> ArcResult:
    message = Content()
    validator = ArcValidator(message)
    message.feed(content)
    message.finish()
    return asyncio.run(validator.result(dns, NOW))


def chain_of(sets: int, signing: SigningKey = ED25519) -> bytes:
    """The message with so many sets."""
    content = MESSAGE
    for number in range(sets):
        content = seal(content, signing, NOW, Result.PASS if number else Result.NONE, RESULTS) + content
    return content


def test_a_message_without_a_chain_has_the_result_none() -> None:
    dns = txt_records({})
    assert validated(MESSAGE, dns) == ArcResult(Result.NONE)
    assert dns.asked == []


@pytest.mark.parametrize("signing", [ED25519, RSA], ids=lambda signing: signing.algorithm)
def test_a_chain_passes_with_its_sealers_and_results(signing: SigningKey) -> None:
    first = seal(MESSAGE, OTHER, NOW, Result.NONE, RESULTS) + MESSAGE
    second = seal(first, signing, NOW, Result.PASS, "mx2.example.org; arc=pass") + first
    assert validated(second, published(OTHER, signing)) == ArcResult(
        Result.PASS, ("example.net", "example.org"), 0, (RESULTS, "mx2.example.org; arc=pass")
    )


def test_dkimpy_validates_our_chain() -> None:
    records = {b"r._domainkey.example.org.": public_record(RSA).encode()}
    status, sets, _ = dkim.arc_verify(chain_of(3, RSA), dnsfunc=lambda name, timeout=5: records[name])
    assert (status, len(sets)) == (b"pass", 3)


def test_lines_are_short() -> None:
    fields = seal(chain_of(1), RSA, NOW, Result.PASS, RESULTS + "; x=" + "y" * 40 + " z" * 40)
    assert max(map(len, fields.split(b"\r\n"))) <= 78


def test_signatures_of_the_message_are_sealed() -> None:
    signed = sign(MESSAGE, [ED25519], NOW) + MESSAGE
    sealed = seal(signed, ED25519, NOW, Result.NONE, RESULTS) + signed
    assert validated(sealed, published(ED25519)).result is Result.PASS
    changed = re.sub(rb"(?<=\r\nDKIM-Signature: v=1; )", b"z=x; ", sealed)
    assert changed != sealed and validated(changed, published(ED25519)).result is Result.FAIL


def test_one_pass_serves_dkim_and_arc() -> None:
    signed = sign(MESSAGE, [RSA, ED25519], NOW) + MESSAGE
    content = Content()
    verifier, validator = Verifier(content), ArcValidator(content)
    for at in range(0, len(sealed := seal(signed, ED25519, NOW, Result.NONE, RESULTS) + signed), 9):
        content.feed(sealed[at : at + 9])
    content.finish()
    dns = published(RSA, ED25519)
    assert [each.result for each in asyncio.run(verifier.results(dns, NOW))] == [Result.PASS, Result.PASS]
    assert asyncio.run(validator.result(dns, NOW)).result is Result.PASS
    assert validator.key_names == ("e._domainkey.example.org",)


def test_the_oldest_pass_is_the_first_set_after_the_last_change() -> None:
    """RFC 8617 5.2: a change breaks the message signatures before it, and no seal."""
    first = chain_of(2).replace(b"Subject: Hello", b"Subject: [list] Hello")
    assert validated(first, published(ED25519)).result is Result.FAIL
    forwarded = first
    for _ in range(2):
        forwarded = seal(forwarded, ED25519, NOW, Result.PASS, RESULTS) + forwarded
    result = validated(forwarded, published(ED25519))
    assert (result.result, result.oldest_pass) == (Result.PASS, 3)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"cv=none", b"cv=pass", "cv=pass in set 1"),
        (b"cv=pass", b"cv=none", "cv=none in set 2"),
        (b"cv=pass", b"cv=fail", "cv=fail in set 2"),
        (b"ARC-Seal: i=2", b"ARC-Seal: i=1", "two ARC-Seal fields with i=1"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=3", "set 1 is not complete"),
        (b"ARC-Seal: i=1", b"X: i=1", "set 1 is not complete"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=51", "ARC-Seal: i= is no number from 1 to 50"),
        (b"; cv=none", b"x; cv=none", "ARC-Seal 1: t= is no number of seconds"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=1; h=from", "ARC-Seal 1: h= is not allowed"),
        (b"Results: i=1; mx", b"Results: i=1 mx", "ARC-Authentication-Results: i= is no number from 1 to 50"),
        (b"dmarc=pass", b"dmarc=fail", "seal 2: the signature does not fit the chain"),
        (b"Subject: Hello", b"Subject: Jello", "message signature 2: the signature does not fit the header"),
        (b"\r\nHello", b"\r\nJello", "message signature 2: the body has another hash than bh="),
    ],
)
def test_a_broken_chain_fails(old: bytes, new: bytes, problem: str) -> None:
    content = chain_of(2)
    assert old in content
    result = validated(content.replace(old, new), published(ED25519))
    assert (result.result, result.problem) == (Result.FAIL, problem)
    assert (result.sealers, result.authentication_results) == ((), ())


def test_a_failure_of_the_dns_is_temporary() -> None:
    assert validated(chain_of(2), txt_records({"e._domainkey.example.org": None})) == ArcResult(
        Result.TEMPERROR, problem="no answer in time"
    )


def test_a_key_that_is_gone_fails_the_chain() -> None:
    result = validated(chain_of(1), txt_records({}))
    assert (result.result, result.problem) == (
        Result.FAIL, "message signature 1: no key at e._domainkey.example.org",
    )  # fmt: skip


def test_fifty_sets_pass_and_no_more_are_made() -> None:
    content = chain_of(50)
    result = validated(content, published(ED25519))
    assert (result.result, len(result.sealers)) == (Result.PASS, 50)
    assert seal(content, ED25519, NOW, Result.PASS, RESULTS) == b""


def test_a_chain_of_a_hundred_is_answered_at_once() -> None:
    block = seal(MESSAGE, ED25519, NOW, Result.NONE, RESULTS)
    content = b"".join(block.replace(b"i=1", b"i=%d" % number) for number in range(100, 0, -1)) + MESSAGE
    dns = published(ED25519)
    before = time.process_time()
    assert validated(content, dns).problem == "more than 50 sets"
    assert time.process_time() - before < 0.1
    assert dns.asked == []


def test_a_long_chain_is_answered_at_once() -> None:
    content = chain_of(2).replace(b"dmarc=pass", b"x=" + b"y" * 300_000)
    assert validated(content, published(ED25519)).problem == "more than 262144 octets"


def test_a_header_that_is_too_long_fails() -> None:
    content = b"X-A: " + b"b" * MOST_HEADER_OCTETS + b"\r\n" + chain_of(1)
    assert validated(content, published(ED25519)).problem == "the header is too long"
    with pytest.raises(HeaderTooLong):
        seal(content, ED25519, NOW, Result.PASS, RESULTS)


# --- Sealing of what has failed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [b"ARC-Seal: i=1", b"ARC-Message-Signature: i=2"])
def test_a_failed_chain_is_sealed_once(broken: bytes) -> None:
    """RFC 8617 5.1.2: the seal covers its own set alone, and no set follows it."""
    content = chain_of(2).replace(broken, b"X: i=1")
    sealed = seal(content, ED25519, NOW, Result.FAIL, RESULTS)
    assert b"ARC-Seal: i=3; " in sealed and b" cv=fail;" in sealed
    assert validated(sealed + content, published(ED25519)).result is Result.FAIL
    assert seal(sealed + content, ED25519, NOW, Result.FAIL, RESULTS) == b""


@pytest.mark.parametrize(("sets", "chain"), [(0, Result.PASS), (1, Result.NONE), (1, Result.NEUTRAL)])
def test_a_result_that_is_not_the_chains_is_refused(sets: int, chain: Result) -> None:
    with pytest.raises(ValueError):
        seal(chain_of(sets), ED25519, NOW, chain, RESULTS)


def test_a_broken_chain_is_not_sealed_as_passed() -> None:
    with pytest.raises(ValueError, match="set 1 is not complete"):
        seal(chain_of(2).replace(b"ARC-Seal: i=1", b"X: i=1"), ED25519, NOW, Result.PASS, RESULTS)


def test_a_seal_from_the_future_does_not_pass() -> None:
    content = seal(MESSAGE, ED25519, NOW + timedelta(days=1), Result.NONE, RESULTS) + MESSAGE
    assert validated(content, published(ED25519)).problem == "message signature 1: the signature is from the future"


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"]),
        st.binary(max_size=40)
        | st.sampled_from([b"i=1; a=ed25519-sha256; cv=none; d=example.org; s=e; b=YWJj", b"i=2;"]),
    ),
    max_size=6,
)


@given(FIELDS)
def test_any_fields_get_a_result_and_a_seal(fields: list[tuple[bytes, bytes]]) -> None:
    block = b"".join(name + b": " + value.replace(b"\r\n\r\n", b"") + b"\r\n" for name, value in fields)
    result = validated(block + MESSAGE, published(ED25519))
    assert result.result in (Result.NONE, Result.FAIL)
    seal(block + MESSAGE, ED25519, NOW, Result.FAIL, RESULTS)
