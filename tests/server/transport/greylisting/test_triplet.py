"""Networks of clients, and reverse-paths without what changes from message to message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_process.addresses import parse_address
from restante_server.transport.greylisting.allowed import Allowed
from restante_server.transport.greylisting.triplet import LONGEST_PATH, Triplet, network_of, reduced


@pytest.mark.parametrize(
    ("client", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_the_network_of_a_client(client: str, network: str) -> None:
    assert network_of(parse_address(client)) == network
    assert Allowed([network]).has_client(parse_address(client))


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("192.0.2.77", True),
        ("192.0.3.77", False),
        ("198.51.100.9", True),
        ("198.51.100.8", False),
        ("203.255.0.1", True),
        ("2001:db8:1:2::9", True),
        ("2001:db8:1:3::9", False),
        ("0.192.0.2", False),  # the same number as in a network of another width
        ("::c000:24d", False),  # 192.0.2.77 as an IPv6 number
    ],
)
def test_networks_and_recipients_that_are_allowed(client: str, allowed: bool) -> None:
    subjects = ["192.0.2.0/24", "198.51.100.9/32", "203.0.0.0/8", "2001:db8:1:2::/64", "alice@example.test"]
    assert Allowed(subjects).has_client(parse_address(client)) is allowed
    assert not Allowed().has_client(parse_address(client))
    recipients = ("alice@example.test", "alice+x@example.test", "bob@example.test", "alice@example.com")
    assert [Allowed(subjects).has_recipient(key) for key in recipients] == [True, True, False, False]
    assert not Allowed().has_recipient("alice@example.test")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ""),
        ("Ann@Example.COM", "ann@example.com"),
        ("ann.2nd@example.com", "ann.2nd@example.com"),
        ("user99@example.com", "user99@example.com"),  # a name, no number
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("list-bounces+bob=example.test@lists.example", "list-bounces@lists.example"),
        ("list-return-4711-bob=example.test@lists.example", "list-return-#-bob=example.test@lists.example"),
        ("0100018c2a3b4c5d-6e7f8091-a2b3-4c5d-8e9f-0a1b2c3d4e5f-000000@ses.example",
         "#-#-a2b3-4c5d-8e9f-#-#@ses.example"),
        ("deadbeef@example.com", "deadbeef@example.com"),  # a word
        ("prvs=1234abcdef=ann@example.com", "ann@example.com"),
        ("prvs=1234abcdef=ann+x@example.com", "ann@example.com"),
        ("SRS0=HHH=TT=example.org=ann@forwarder.example", "srs0=example.org=ann@forwarder.example"),
        ("SRS0+abcd=XY=example.org=ann@forwarder.example", "srs0=example.org=ann@forwarder.example"),
        ("SRS1=abcd=first.example==HHH=TT=example.org=ann@second.example",
         "srs1=first.example==example.org=ann@second.example"),
        ("SRS0=x@forwarder.example", "srs0=x@forwarder.example"),
        ("SRS1=x@forwarder.example", "srs1=x@forwarder.example"),
        ("+x@example.com", "+x@example.com"),
        ('"a b"@example.com', "a b@example.com"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
    ],
)  # fmt: skip
def test_a_reverse_path_without_what_changes(path: str, expected: str) -> None:
    assert reduced(path) == expected


@given(st.text(max_size=400) | st.from_regex(r"(SRS[01]|prvs|a)[=+-]{0,3}[a-f0-9=+-]{0,60}@[a-z]{1,9}\.example"))
def test_any_reverse_path_is_reduced_within_bounds_and_twice_as_once(path: str) -> None:
    once = reduced(path)
    assert len(once) <= LONGEST_PATH
    assert reduced(path.upper() if path.isascii() else path) == once or not path.isascii()


def test_the_key_tells_triplets_apart() -> None:
    triplets = [
        Triplet("192.0.2.0/24", "a@example.org", "b@example.test"),
        Triplet("192.0.3.0/24", "a@example.org", "b@example.test"),
        Triplet("192.0.2.0/24", "", "b@example.test"),
        Triplet("192.0.2.0/24", "a@example.org", "c@example.test"),
        Triplet("192.0.2.0/24", "a@example.orgb", "@example.test"),
    ]
    assert len({one.key for one in triplets}) == len(triplets)
    assert all(len(one.key) == 16 for one in triplets)
