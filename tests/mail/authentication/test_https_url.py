"""The https addresses of web servers that take reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.https_url import BadUrl, HttpsUrl, is_https, parse_https


@pytest.mark.parametrize(
    ("text", "expected", "authority"),
    [
        ("https://example.com/v1/tlsrpt", HttpsUrl("example.com", 443, "/v1/tlsrpt"), "example.com"),
        ("HTTPS://Example.COM", HttpsUrl("example.com", 443, "/"), "example.com"),
        ("https://example.com.:8443?a=b%2C", HttpsUrl("example.com", 8443, "/?a=b%2C"), "example.com:8443"),
        ("https://b\u00fccher.example/x?y/z", HttpsUrl("xn--bcher-kva.example", 443, "/x?y/z"), None),
        ("https://example.com:/", HttpsUrl("example.com", 443, "/"), "example.com"),
    ],
)
def test_an_address_has_host_port_and_target(text: str, expected: HttpsUrl, authority: str | None) -> None:
    assert parse_https(text) == expected
    assert authority is None or parse_https(text).authority == authority


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://example.com/",
        "https:/example.com",
        "https:///x",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://example.com/#part",
        "https://example.com/a b",
        "https://example.com/\r\nHost: other",
        "https://example.com/\u00fc",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:4x/",
        "https://example.com:\u0664/",
        "https://[::1]/",
        "https://exa mple.com/",
        "https://example.com/" + "x" * 2_000,
    ],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(BadUrl):
        parse_https(text)
    assert not is_https(text)


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda rest: "https://" + rest))
def test_any_text_is_an_address_or_none(text: str) -> None:
    if is_https(text):
        found = parse_https(text)
        assert found.target.isascii() and found.host.isascii() and found.target.startswith("/")
        assert parse_https(f"https://{found.authority}{found.target}") == found
