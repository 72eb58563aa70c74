"""The values of ENVID and ORCPT: their grammar, their limits and the ASCII form of other addresses (RFC 3461, 6533)."""

from __future__ import annotations

import pytest

from restante_mail.envelope import parameters


@pytest.mark.parametrize("value", ["a", "QQ+2B314", "a" * 100])
def test_an_envelope_id(value: str) -> None:
    assert parameters.is_envelope_id(value)


@pytest.mark.parametrize("value", ["", "a b", "a=b", "a+b", "a+2b", "a\r\nRSET", "ä", "a" * 101])
def test_not_an_envelope_id(value: str) -> None:
    assert not parameters.is_envelope_id(value)


@pytest.mark.parametrize(
    "value", ["rfc822;a+2Bb@example.org", "x400;/C=".replace("=", "+3D"), "UTF-8;b\\x{FC}+@x", "rfc822;" + "a" * 493]
)
def test_an_original_recipient(value: str) -> None:
    assert parameters.is_original_recipient(value)


@pytest.mark.parametrize(
    "value",
    ["", "rfc822", "rfc822;", ";a", "r_c;a", "rfc822;a b", "rfc822;a+b", "rfc822;a=b", "rfc822;ä", "utf-8;ä",
     "utf-8;a\r\nRSET", "rfc822;" + "a" * 494],
)  # fmt: skip
def test_not_an_original_recipient(value: str) -> None:
    assert not parameters.is_original_recipient(value)


def test_a_path_as_original_recipient_stays_within_the_limit() -> None:
    assert parameters.original_recipient("a+b@example.org") == "rfc822;a+2Bb@example.org"
    assert parameters.original_recipient("+" * 200 + "@example.org") == ""


@pytest.mark.parametrize(
    ("address", "encoded"),
    [
        ("a@x", "a@x"),
        ("bücher@x", "b\\x{FC}cher@x"),
        ("a+=\\ b@x", "a\\x{2B}\\x{3D}\\x{5C}\\x{20}b@x"),
        ("😀", "\\x{1F600}"),
    ],
)
def test_an_address_in_the_ascii_form_of_utf_8(address: str, encoded: str) -> None:
    assert parameters.encode_utf_8_address(address) == encoded
    assert parameters.in_ascii(encoded) == encoded
    assert parameters.decode_utf_8_address(encoded).replace("\\x{20}", " ") == address
    assert parameters.is_original_recipient(f"utf-8;{encoded}")


def test_what_the_sender_has_encoded_is_not_encoded_again() -> None:
    assert parameters.in_ascii("b\\x{FC}ch\u00e4r") == "b\\x{FC}ch\\x{E4}r"
