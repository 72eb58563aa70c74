"""PROXY headers: every prefix of a valid one needs more octets, and any other input is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.net.proxy_protocol import (
    MAX_V1_OCTETS,
    SIGNATURE,
    ProxyHeader,
    ProxyProtocolError,
    parse,
)


def version_2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(body)) + body


V4 = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack("!HH", 40000, 993)
V6 = bytes.fromhex("20010db8000000000000000000000001" + "20010db8000000000000000000000002") + struct.pack("!HH", 1, 2)

GOOD = [
    (
        b"PROXY TCP4 192.0.2.1 198.51.100.7 40000 993\r\n",
        ("192.0.2.1", 40000),
        ("198.51.100.7", 993),
    ),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", ("2001:db8::1", 1), ("2001:db8::2", 65535)),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", ("192.0.2.1", 1), ("::1", 2)),
    (b"PROXY UNKNOWN\r\n", None, None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, None),
    (version_2(1, 0x11, V4), ("192.0.2.1", 40000), ("198.51.100.7", 993)),
    (version_2(1, 0x21, V6 + b"\x03\x00\x04abcd"), ("2001:db8::1", 1), ("2001:db8::2", 2)),
    (version_2(0, 0x11, V4), None, None),  # LOCAL: the addresses are to be ignored
    (version_2(1, 0x00, b""), None, None),
    (version_2(1, 0x31, bytes(216)), None, None),  # a UNIX socket
]


@pytest.mark.parametrize(("octets", "client", "local"), GOOD)
def test_a_header_gives_both_ends_and_its_length(
    octets: bytes, client: tuple[str, int] | None, local: tuple[str, int] | None
) -> None:
    expected = ProxyHeader(len(octets), client, local)  # type: ignore[arg-type]  # Endpoint is a tuple
    assert parse(octets) == expected
    assert parse(octets + b"a1 LOGIN alice secret\r\n") == expected


@pytest.mark.parametrize("octets", [octets for octets, _, _ in GOOD])
def test_every_prefix_asks_for_more(octets: bytes) -> None:
    for length in range(len(octets)):
        assert parse(octets[:length]) is None


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXZ",
        b"a1 NOOP\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 40000\r\n",
        b"PROXY TCP4 192.0.2.1  198.51.100.7 40000 993\r\n",
        b"PROXY TCP4 2001:db8::1 198.51.100.7 40000 993\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.7 40000 993\r\n",
        b"PROXY TCP4 192.0.2.999 198.51.100.7 40000 993\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 993\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 -1 993\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 0993 993\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.7 1 993\r\n",
        b"PROXY TCP4 " + b"1" * MAX_V1_OCTETS,
        SIGNATURE + b"\x11\x11\x00\x0c" + V4,  # version 1 in a version 2 header
        SIGNATURE + b"\x22\x11\x00\x0c" + V4,  # unknown command
        SIGNATURE + b"\x21\x11\x00\x08" + V4[:8],  # addresses cut short
        SIGNATURE + b"\x21\x11\xff\xff",  # longer than anyone needs
    ],
)
def test_anything_else_is_refused(octets: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        parse(octets)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=64).map(lambda tail: SIGNATURE + tail)))
def test_hostile_octets_end_in_an_answer(octets: bytes) -> None:
    try:
        header = parse(octets)
    except ProxyProtocolError:
        return
    assert header is None or 0 < header.octets <= len(octets)
