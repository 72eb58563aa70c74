"""Verification of DKIM signatures (RFC 6376 6)."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dkim.canonicalization import Canonicalization
from restante_mail.authentication.dkim.content import HeaderFields
from restante_mail.authentication.dkim.sign import Form, sign, signed_field
from restante_mail.authentication.dkim.signing_keys import public_record
from restante_mail.authentication.dkim.verify import MOST_SIGNATURES, Verifier
from restante_mail.authentication.results import DkimResult, Result
from tests.harness.memory_dns import MemoryDns
from tests.mail.authentication.dkim.answers import NOW, key, published, txt_records, verified

RELAXED, SIMPLE = Canonicalization.RELAXED, Canonicalization.SIMPLE
HEADER = (
    b"Received: from a\r\n\tby b\r\nFrom: Bob <bob@example.org>\r\nTo: alice@example.test\r\nSubject: Hello\r\n"
    b"Received: from c\r\n"
)
BODY = b"Hello  you \r\n\r\nThe end\r\n"
MESSAGE = HEADER + b"\r\n" + BODY
RSA, ED25519 = key(), key("ed25519-sha256")


def signed(message: bytes = MESSAGE, body: bytes | None = None, /, **changes: str | None) -> bytes:
    """`message` with a relaxed/relaxed Ed25519 signature of the test's own tags. A tag of None is left out."""
    block, _, rest = message.partition(b"\r\n\r\n")
    header = HeaderFields(block + b"\r\n")
    body_hash = b64encode(hashlib.sha256(rest if body is None else body).digest()).decode()
    tags: dict[str, str | None] = {
        "v": "1", "a": "ed25519-sha256", "c": "relaxed/simple", "d": "example.org", "s": "e", "h": "from:to:subject",
        "bh": body_hash, **changes,
    }  # fmt: skip
    names = [name.strip().lower().encode() for name in (tags["h"] or "").split(":")]
    present = [(name, value) for name, value in tags.items() if value is not None]
    form = SIMPLE if (tags["c"] or "simple").startswith("simple") else RELAXED
    return signed_field(b"DKIM-Signature", present, ED25519, header, names, form) + message


def only(content: bytes, dns: MemoryDns | None = None) -> DkimResult:
    (result,) = verified(content, dns or published(ED25519))
    return result


def test_a_message_without_a_signature_has_no_result() -> None:
    dns = txt_records({})
    assert verified(MESSAGE, dns) == ()
    assert dns.asked == []


@pytest.mark.parametrize("content", [b"", b"\r\n", b"\r\n\r\n", b"From: a\r\n", b"From: a", b"no header", b"\r"])
def test_odd_messages_have_no_result(content: bytes) -> None:
    assert verified(content, txt_records({})) == verified(content, txt_records({}), piece=1) == ()


def test_the_signature_of_the_tests_passes() -> None:
    assert only(signed()).result is Result.PASS


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"The end", b"The End"), (b"bob@", b"rob@"), (b"Subject: Hello", b"Subject: Jello"), (b"To: a", b"To: b"),
     (b"end\r\n", b"end\r\n\r\nMore\r\n"), (b"d=example.org;", b"d=example.org; t=1;")],
)  # fmt: skip
def test_a_change_of_signed_octets_fails(old: bytes, new: bytes) -> None:
    content = signed()
    assert old in content
    assert only(content.replace(old, new)).result is Result.FAIL


@pytest.mark.parametrize(
    ("old", "new"), [(b"from c", b"from d"), (b"Subject: Hello", b"subject:\r\n Hello "), (b"end\r\n", b"end\r\n\r\n")]
)
def test_other_changes_do_not_matter(old: bytes, new: bytes) -> None:
    assert only(signed().replace(old, new)).result is Result.PASS


PROBLEMS = [
    ({"v": None}, "v= is missing"),
    ({"v": "2"}, "v= is not 1"),
    ({"a": None}, "a= is missing"),
    ({"a": "rsa-sha1"}, "a=rsa-sha1 is not valid any more"),
    ({"a": "dsa-sha256"}, "a= is an unknown algorithm"),
    ({"a": "RSA-SHA256"}, "a= is an unknown algorithm"),
    ({"d": None}, "d= is missing"),
    ({"d": "-example.org"}, "d= is no domain name"),
    ({"d": "example..org"}, "d= is no domain name"),
    ({"d": "a" * 64 + ".org"}, "d= is no domain name"),
    ({"d": ".".join(["abcdefg"] * 32) + ".org"}, "d= is no domain name"),
    ({"s": None}, "s= is missing"),
    ({"s": "a b"}, "s= is no selector"),
    ({"h": None}, "h= is missing"),
    ({"h": "to:subject"}, "h= does not have From"),
    ({"h": ""}, "h= does not have From"),
    ({"h": "from:a b"}, "h= has a word that is no field name"),
    ({"bh": None}, "bh= is missing"),
    ({"bh": "YWJj"}, "bh= is no SHA-256 hash"),
    ({"bh": "Y"}, "bh= is not base64"),
    ({"c": "strict"}, "c= is an unknown canonicalization"),
    ({"c": "relaxed/"}, "c= is an unknown canonicalization"),
    ({"c": ""}, "c= is an unknown canonicalization"),
    ({"l": "-1"}, "l= is no number of octets"),
    ({"l": "1" * 77}, "l= is no number of octets"),
    ({"l": "1000000"}, "l= is larger than the body"),
    ({"q": "http"}, "q= does not have dns/txt"),
    ({"t": "soon"}, "t= is no number of seconds"),
    ({"t": "10", "x": "10"}, "x= is not after t="),
    ({"x": "1"}, "the signature has expired"),
    ({"x": str(int(NOW.timestamp()) - 301)}, "the signature has expired"),
    ({"t": str(int(NOW.timestamp()) + 301)}, "the signature is from the future"),
    ({"i": "bob"}, "i= is no address"),
    ({"i": "bob@other.org"}, "i= is not under d="),
    ({"i": "bob@badexample.org"}, "i= is not under d="),
    ({"i": "b" * 700 + "@example.org"}, "i= is no address"),
]


@pytest.mark.parametrize(("changes", "problem"), PROBLEMS)
def test_a_signature_with_a_bad_tag_is_a_permanent_error(changes: dict[str, str | None], problem: str) -> None:
    result = only(signed(**changes))
    assert (result.result, result.problem) == (Result.PERMERROR, problem)


@pytest.mark.parametrize(
    "changes",
    [
        {"d": "EXAMPLE.org"}, {"q": "x : dns/txt"}, {"z": "From:x|To:y"}, {"unknown": "1"}, {"i": "b@a.b.Example.ORG"},
        {"i": "=20@example.org"}, {"h": "from : to :subject: x-none : from"}, {"h": "FROM::to"}, {"c": None},
        {"x": str(int(NOW.timestamp()) - 299)}, {"t": str(int(NOW.timestamp()) + 299)}, {"c": "simple"},
        {"c": "simple/simple"}, {"l": str(len(BODY))},
    ],
)  # fmt: skip
def test_other_tags_pass(changes: dict[str, str | None]) -> None:
    assert only(signed(**changes)).result is Result.PASS


@pytest.mark.parametrize("place", [0, 1])
def test_two_tags_of_a_name_are_refused(place: int) -> None:
    content = signed().replace(b"d=example.org;", b"d=example.org; d=example.org;")
    assert only(content).problem == "two d= tags"


def test_the_result_of_a_bad_signature_has_the_valid_names() -> None:
    result = only(signed(h="to"))
    names = (result.domain, result.selector, result.identity, result.algorithm)
    assert names == ("example.org", "e", "@example.org", "ed25519-sha256")
    assert len(result.signature_start) == 8


def test_a_long_field_is_refused_unread() -> None:
    assert only(signed(z="x" * 33_000)).problem == "more than 32768 octets"


def test_internationalised_names_are_looked_up_as_a_labels() -> None:
    dns = txt_records({"xn--bcher-kva._domainkey.xn--mnchen-3ya.example": public_record(ED25519)})
    result = only(signed().replace(b"d=example.org; s=e", "d=münchen.example; s=bücher".encode()), dns)
    assert (result.result, result.domain) == (Result.FAIL, "xn--mnchen-3ya.example")  # the field was changed
    assert dns.asked == [("xn--bcher-kva._domainkey.xn--mnchen-3ya.example", "TXT")]


# --- Octets of the body -----------------------------------------------------------------------------------------------


def test_a_length_leaves_octets_unsigned() -> None:
    result = only(signed(MESSAGE, BODY[:5], l="5"))
    assert (result.result, result.partial) == (Result.PASS, True)
    added = only(signed(l=str(len(BODY))) + b"More\r\n")
    assert (added.result, added.partial) == (Result.PASS, True)


def test_a_length_of_the_whole_body_is_not_partial() -> None:
    assert not only(signed(l=str(len(BODY)))).partial


def test_a_length_of_zero_signs_no_body() -> None:
    result = only(signed(MESSAGE, b"", l="0"))
    assert (result.result, result.partial) == (Result.PASS, True)


def test_signatures_of_different_lengths_and_forms_share_the_pass() -> None:
    content = MESSAGE
    for form in (Form(RELAXED, SIMPLE), Form(SIMPLE, RELAXED), Form(SIMPLE, SIMPLE), Form()):
        content = sign(content, [RSA, ED25519], NOW, form=form) + content
    results = verified(content, published(RSA, ED25519), piece=13)
    assert [each.result for each in results] == [Result.PASS] * 8


# --- The choice of fields (RFC 6376 5.4.2) ----------------------------------------------------------------------------


def test_fields_of_one_name_are_chosen_from_the_bottom() -> None:
    content = signed(h="from:received")
    assert only(content.replace(b"from a", b"from x")).result is Result.PASS
    assert only(content.replace(b"from c", b"from x")).result is Result.FAIL
    both = signed(h="received:from:received:received")
    assert only(both).result is Result.PASS
    assert only(both.replace(b"from a", b"from x")).result is Result.FAIL
    assert only(b"Received: new\r\n" + both).result is Result.FAIL


def test_a_missing_field_in_the_list_must_stay_away() -> None:
    content = signed(h="from:from:cc")
    assert only(content).result is Result.PASS
    assert only(b"Cc: x@example.net\r\n" + content).result is Result.FAIL
    assert only(b"From: x@example.net\r\n" + content).result is Result.FAIL


def test_a_signature_may_sign_older_signatures_but_not_itself() -> None:
    older = sign(MESSAGE, [ED25519], NOW) + MESSAGE
    first, second = verified(signed(older, h="from:dkim-signature:dkim-signature"), published(ED25519))
    assert (first.result, second.result) == (Result.PASS, Result.PASS)


# --- Keys -------------------------------------------------------------------------------------------------------------

NAME = "e._domainkey.example.org"
RECORD = public_record(ED25519)


@pytest.mark.parametrize(
    ("record", "result", "problem"),
    [
        ((), Result.PERMERROR, "no key at e._domainkey.example.org"),
        (None, Result.TEMPERROR, "no answer in time"),
        ("v=DKIM1; k=ed25519; p=", Result.PERMERROR, "the key has been revoked"),
        (RECORD + "; h=sha1", Result.PERMERROR, "h= of the key does not allow sha256"),
        (RECORD + "; s=tlsrpt", Result.PERMERROR, "s= of the key does not allow mail"),
        (public_record(RSA), Result.PERMERROR, "the key is of another type than a="),
        ((RECORD, RECORD), Result.PERMERROR, "several key records"),
        (("v=spf1 -all", "x"), Result.PERMERROR, "key record: v= is not DKIM1 at the start"),
        (public_record(key("ed25519-sha256", selector="other")), Result.FAIL, "the signature does not fit the header"),
    ],
)
def test_a_key_that_does_not_serve(record: str | tuple[str, ...] | None, result: Result, problem: str) -> None:
    found = only(signed(), txt_records({NAME: record}))
    assert (found.result, found.problem) == (result, problem)


@pytest.mark.parametrize("record", [RECORD + "; h=sha1:sha256", RECORD + "; s=email", RECORD + "; s=a:*"])
def test_a_key_that_serves(record: str) -> None:
    assert only(signed(), txt_records({NAME: record})).result is Result.PASS


def test_a_record_beside_other_text_is_found() -> None:
    assert only(signed(), txt_records({NAME: ("v=spf1 -all", RECORD, "hello")})).result is Result.PASS


def test_a_key_in_testing_is_shown() -> None:
    assert only(signed(), published(ED25519, t="y")).testing


@pytest.mark.parametrize(("identity", "result"), [("@a.example.org", Result.PERMERROR), ("x@EXAMPLE.org", Result.PASS)])
def test_a_strict_key_wants_the_very_domain(identity: str, result: Result) -> None:
    assert only(signed(i=identity), published(ED25519, t="s")).result is result


# --- Bounds -----------------------------------------------------------------------------------------------------------


def test_the_latest_signatures_are_verified_and_the_rest_counted() -> None:
    content = b"".join([sign(MESSAGE, [ED25519], NOW)] * 1_000) + MESSAGE
    dns = published(ED25519)
    results = verified(content, dns)
    assert [each.result for each in results] == [Result.PASS] * MOST_SIGNATURES + [Result.POLICY]
    assert results[-1].problem == "990 more signatures were not verified"
    assert len(dns.asked) == MOST_SIGNATURES


def test_a_header_that_is_too_long_is_a_policy_result_and_is_not_kept() -> None:
    verifier_input = sign(MESSAGE, [ED25519], NOW) + b"X-A: b\r\n" * 200_000 + MESSAGE
    (result,) = verified(verifier_input, published(ED25519), piece=10_000)
    assert (result.result, result.problem) == (Result.POLICY, "the header is too long")


def test_keys_are_known_when_the_header_is_complete() -> None:
    content = sign(MESSAGE, [RSA, ED25519], NOW) + MESSAGE
    end = content.index(b"\r\n\r\n") + 4
    verifier = Verifier()
    verifier.feed(content[: end - 1])
    assert list(verifier.key_names) == []
    verifier.feed(content[end - 1 : end])
    assert list(verifier.key_names) == ["r._domainkey.example.org", "e._domainkey.example.org"]
    assert [each.signer.domain for each in verifier.signatures] == ["example.org"] * 2


def test_signatures_are_told_apart_by_their_starts() -> None:
    """RFC 6008 4: as many characters as tell the signatures apart."""
    one, two = signed(), signed(h="from")
    first, second = verified(one[: one.index(b"Received")] + two, published(ED25519))
    assert first.signature_start != second.signature_start
    same = verified(one[: one.index(b"Received")] + one, published(ED25519))
    assert {len(each.signature_start) for each in same} == {8}


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_signature_field_gets_a_result(value: bytes, piece: int) -> None:
    content = b"DKIM-Signature: v=1; " + value.replace(b"\r\n\r\n", b"") + b"\r\n" + MESSAGE
    for result in verified(content, published(ED25519), piece=piece):
        assert result.result in (Result.PERMERROR, Result.FAIL)
        assert result.problem


def test_time_is_judged_with_a_tolerance() -> None:
    content = sign(MESSAGE, [ED25519], NOW, lifetime=timedelta(days=7)) + MESSAGE
    dns = published(ED25519)
    for days, result in ((0, Result.PASS), (7, Result.PASS), (8, Result.PERMERROR), (-1, Result.PERMERROR)):
        assert verified(content, dns, NOW + timedelta(days=days))[0].result is result
