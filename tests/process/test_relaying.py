"""Smarthosts and source addresses in the configuration: each mistake is named with its key."""

from __future__ import annotations

from typing import Any

import pytest

from restante_process.config import ConfigError
from restante_process.config_file import load

GOOD: dict[str, Any] = {"host": "smart.example", "recipient_domains": ["*"]}
LOGIN: dict[str, Any] = {**GOOD, "user": "relay", "secret_file": "/etc/restante/relay.secret"}


def smarthost(**keys: Any) -> None:
    load(None, {}, {"relay.smarthosts": {"out": keys}})


def test_what_is_right_is_taken() -> None:
    smarthost(**GOOD)
    smarthost(**LOGIN, mechanism="SCRAM-SHA-256", tls="implicit", port=465)
    smarthost(**{**LOGIN, "host": "127.0.0.1", "tls": "none"})
    smarthost(**{**LOGIN, "host": "localhost", "tls": "opportunistic"})
    smarthost(host="2001:db8::1", sender_domains=["example.test"], tls="none")
    made = load(None, {}, {"relay.sources": {"ours": {"sender_domains": ["a.example"], "ipv6": "2001:db8::2"}}})
    assert made.relay.sources["ours"].ipv6 == "2001:db8::2"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"recipient_domains": ["*"]}, "out.host: '' is neither"),
        ({**GOOD, "host": "user:secret@smart.example"}, "out.host"),
        ({**GOOD, "host": "smart.example:587"}, "out.host"),
        ({**GOOD, "port": 70_000}, "out.port: 70000"),
        ({**GOOD, "tls": "yes"}, "out.tls: 'yes' is not allowed"),
        ({**GOOD, "mechanism": "CRAM-MD5"}, "out.mechanism: 'CRAM-MD5' is not allowed"),
        ({"host": "smart.example"}, "out: no mail goes to it"),
        ({"host": "smart.example", "sender_domains": ["*"]}, "out.sender_domains"),
        ({**GOOD, "user": "relay"}, "out.secret_file: the key is missing"),
        ({**GOOD, "secret_file": "/x"}, "out.user: the key is missing"),
        ({**GOOD, "mechanism": "PLAIN"}, "out.mechanism: 'PLAIN' needs user"),
        ({**LOGIN, "user": "a\0b"}, "out.user: the name has a control character"),
        ({**LOGIN, "tls": "none"}, "out.tls: 'none' would send the password"),
        ({**LOGIN, "tls": "opportunistic"}, "out.tls: 'opportunistic' would send the password"),
        ({**GOOD, "password": "x"}, "out.password: unknown key"),
    ],
)
def test_a_mistake_in_a_smarthost_is_named(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        smarthost(**keys)
    assert f"relay.smarthosts.{problem}" in str(caught.value)
    assert "/etc/restante" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"ipv4": "192.0.2.1"}, "out.sender_domains: the list is empty"),
        ({"sender_domains": ["*"]}, "out: it changes nothing"),
        ({"sender_domains": ["*"], "ipv4": "::1"}, "out.ipv4: '::1' is not an IPv4 address"),
        ({"sender_domains": ["*"], "ipv6": "192.0.2.1"}, "out.ipv6: '192.0.2.1' is not an IPv6 address"),
        ({"sender_domains": ["*"], "ipv4": "eth0"}, "out.ipv4: 'eth0'"),
        ({"sender_domains": ["*"], "hostname": "a b"}, "out.hostname: 'a b'"),
    ],
)
def test_a_mistake_in_a_source_is_named(keys: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, {"relay.sources": {"out": keys}})
    assert f"relay.sources.{problem}" in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (
            {
                "relay.routes": {"a.example": "x"},
                "relay.smarthosts": {"s": {**GOOD, "recipient_domains": ["A.example."]}},
            },
            "relay.smarthosts.s.recipient_domains: 'A.example.' is named already, in relay.routes.a.example",
        ),
        (
            {"relay.smarthosts": {"s": GOOD, "t": GOOD}},
            "relay.smarthosts.t.recipient_domains: '*' is named already, in relay.smarthosts.s.recipient_domains",
        ),
        (
            {"relay.sources": {name: {"sender_domains": ["*"], "hostname": "x"} for name in "st"}},
            "relay.sources.t.sender_domains: '*' is named already",
        ),
    ],
)
def test_a_domain_has_one_route(flags: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {}, flags)
    assert problem in str(caught.value)
