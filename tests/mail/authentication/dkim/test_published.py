"""The published record of a key of ours, compared with the record to publish."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dkim.published import differences

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(32)).decode()
RECORD = f"v=DKIM1; k=ed25519; p={KEY}"
REVOKED = "v=DKIM1; k=ed25519; p="


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ([RECORD], []),
        ([f"v=DKIM1;k=ed25519;p={KEY[:9]} {KEY[9:]};"], []),
        ([f"k=ed25519; h=sha256; s=email; t=s; n=note; p={KEY}"], []),
        ([], ["there is no record"]),
        ([RECORD, "v=spf1 -all"], ["there are 2 records, of which receivers may take the wrong one"]),
        (["v=spf1 -all"], ["the record is no key record: p= is missing"]),
        (["moved"], ["the record is no key record: no tag list"]),
        (["v=DKIM1"], ["the record is no key record: p= is missing"]),
        ([f"v=DKIM1; p={KEY}"], ["k= is 'rsa' instead of ed25519"]),
        ([f"k=ed25519; v=DKIM1; p={KEY}"], ["v= is not DKIM1 at the start"]),
        ([f"v=DKIM2; k=ed25519; p={KEY}"], ["v= is not DKIM1 at the start"]),
        ([f"v=DKIM1; k=ed25519; p={OTHER}"], ["p= has another key"]),
        ([f"v=DKIM1; k=ed25519; p={KEY[:-4]}"], ["p= has another key"]),
        ([REVOKED], ["p= is empty, which revokes the key"]),
        (
            [f"v=DKIM1; k=ed25519; h=sha1; s=other; t=y; p={KEY}"],
            ["h= does not allow sha256", "s= does not allow mail", "t=y says that the domain only tests DKIM"],
        ),
    ],
)
def test_each_difference_has_a_sentence(published: list[str], expected: list[str]) -> None:
    assert differences(RECORD, [text.encode() for text in published]) == expected


@pytest.mark.parametrize(
    ("published", "expected"),
    [([], []), ([REVOKED], []), ([RECORD], ["the revoked key is still published"])],
)
def test_a_revoked_key_is_absent_or_empty(published: list[str], expected: list[str]) -> None:
    assert differences(REVOKED, [text.encode() for text in published]) == expected


def test_a_long_record_is_no_key_record() -> None:
    (problem,) = differences(RECORD, [b"v=DKIM1; p=" + b"A" * 10_000])
    assert "more than 8192 octets" in problem


texts = st.binary(max_size=60) | st.binary(max_size=30).map(lambda tail: RECORD.encode() + b";" + tail)


@given(st.lists(texts, max_size=2))
def test_any_records_are_judged(published: list[bytes]) -> None:
    problems = differences(RECORD, published)
    assert problems or published
