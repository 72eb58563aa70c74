"""Our signatures are verified by dkimpy, and those of dkimpy by us."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dkim
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from restante_mail.authentication.dkim.canonicalization import Canonicalization
from restante_mail.authentication.dkim.sign import Form, sign
from restante_mail.authentication.dkim.signing_keys import public_record
from restante_mail.authentication.results import Result
from restante_mail.canonical import NulFound, canonicalise
from tests.mail.authentication.dkim.answers import NOW, key, pem, published, verified
from tests.mail.material import cpython_corpus, shared_corpus

RSA, ED25519 = key(), key("ed25519-sha256")
FORMS = [Form(header, body) for header in Canonicalization for body in Canonicalization]
RECORDS = {f"{each.selector}._domainkey.example.org.": public_record(each).encode() for each in (RSA, ED25519)}
RSA_PEM = pem(RSA)

LINES = st.lists(st.text(st.sampled_from("ab:=;. \t"), max_size=30).map(str.encode), max_size=12)
VALUES = st.lists(st.text(st.sampled_from("ab<>@;= \t"), min_size=1, max_size=20), min_size=1, max_size=3)
FIELDS = st.lists(
    st.tuples(st.sampled_from("From To Cc Subject Date X-A List-Id Reply-To".split()), VALUES), max_size=8
)


def record(name: bytes, timeout: int = 5) -> bytes:
    return RECORDS[name.decode()]


def their_results(content: bytes, signatures: int) -> list[bool]:
    return [dkim.DKIM(content).verify(idx=place, dnsfunc=record) for place in range(signatures)]


def messages() -> Iterator[bytes]:
    for content in [*shared_corpus().values(), *cpython_corpus().values()]:
        try:
            yield canonicalise(content).octets
        except NulFound:
            continue


@st.composite
def generated(draw: st.DrawFn) -> bytes:
    """A message with a From, and with folded fields whose lines have octets other than white space."""
    header = b"From: bob@example.org\r\n"
    for name, value in draw(FIELDS):
        header += name.encode() + b":" + "\r\n ".join(line + "x" for line in value).encode() + b"\r\n"
    return header + b"\r\n" + b"\r\n".join([*draw(LINES), b""])


@settings(max_examples=30, deadline=None)
@given(generated(), st.sampled_from(FORMS))
def test_dkimpy_verifies_our_signatures(content: bytes, form: Form) -> None:
    signed = sign(content, [RSA, ED25519], NOW, form=form) + content
    assert their_results(signed, 2) == [True, True]
    assert [each.result for each in verified(signed, published(RSA, ED25519), piece=17)] == [Result.PASS] * 2


@settings(max_examples=30, deadline=None)
@given(generated(), st.sampled_from(FORMS), st.booleans())
def test_we_verify_signatures_of_dkimpy(content: bytes, form: Form, oversigned: bool) -> None:
    names = [b"from", b"to", b"subject", b"reply-to", b"from", b"cc"] if oversigned else None
    pair = (form.header.value.encode(), form.body.value.encode())
    field = dkim.sign(content, b"r", b"example.org", RSA_PEM, canonicalize=pair, include_headers=names)
    (result,) = verified(field + content, published(RSA), datetime.now(UTC), piece=17)  # dkimpy writes t=
    assert (result.result, result.problem) == (Result.PASS, "")


def test_dkimpy_verifies_our_signatures_of_the_corpus() -> None:
    judged = 0
    for place, content in enumerate(messages()):
        signed = sign(content, [ED25519], NOW, form=FORMS[place % 4]) + content
        assert verified(signed, published(ED25519), piece=1_000)[0].result is Result.PASS
        try:
            assert their_results(signed, 1) == [True]
        except dkim.MessageFormatError:  # a line of the header that is no field
            continue
        judged += 1
    assert judged > 60


@pytest.mark.parametrize("length", [True, False])
def test_we_verify_lengths_of_dkimpy(length: bool) -> None:
    content = b"From: bob@example.org\r\n\r\nHello\r\n"
    field = dkim.sign(content, b"r", b"example.org", RSA_PEM, length=length)
    (result,) = verified(field + content + b"More\r\n", published(RSA), datetime.now(UTC))
    assert (result.result, result.partial) == ((Result.PASS, True) if length else (Result.FAIL, False))


def test_the_records_are_those_of_dkimpy() -> None:
    public = RSA.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert dkim.parse_public_key(public)["modulus"].bit_length() == 2_048
