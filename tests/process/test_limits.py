"""Limits by address: a /64 is one IPv6 client, tokens return with time, and `release` frees a connection."""

from __future__ import annotations

from restante_process.addresses import limit_key, parse_networks
from restante_process.limits import ConnectionLimiter, ConnectionLimits, RateLimiter, Refusal


def test_one_ipv6_client_is_a_slash_64_and_mapped_ipv4_is_ipv4() -> None:
    assert limit_key("2001:db8:1:2:3:4:5:6") == limit_key("2001:db8:1:2::9") != limit_key("2001:db8:1:3::9")
    assert limit_key("::ffff:192.0.2.1") == limit_key("192.0.2.1") != limit_key("192.0.2.2")
    assert limit_key("fe80::1%eth0") == limit_key("fe80::2")


def test_connections_per_address_are_bounded_and_released() -> None:
    limiter = ConnectionLimiter(ConnectionLimits(connections_per_address=2))
    assert limiter.admit("2001:db8::1", 0.0) is None
    assert limiter.admit("2001:db8::2", 0.0) is None
    assert limiter.admit("2001:db8::3", 0.0) is Refusal.TOO_MANY_FROM_ADDRESS
    assert limiter.admit("192.0.2.1", 0.0) is None
    limiter.release("2001:db8::2")
    assert limiter.admit("2001:db8::3", 0.0) is None
    assert limiter.connections == 3


def test_connections_in_all_are_bounded_even_for_exempt_addresses() -> None:
    limiter = ConnectionLimiter(ConnectionLimits(connections=2, connections_per_address=1))
    assert limiter.admit("127.0.0.1", 0.0) is None
    assert limiter.admit("127.0.0.1", 0.0) is None
    assert limiter.admit("192.0.2.1", 0.0) is Refusal.TOO_MANY_CONNECTIONS
    limiter.release("127.0.0.1")
    assert limiter.admit("192.0.2.1", 0.0) is None


def test_new_connections_are_bounded_by_rate() -> None:
    limits = ConnectionLimits(connections_per_address=0, new_per_minute_per_address=60, exempt=parse_networks(()))
    limiter = ConnectionLimiter(limits)
    assert all(limiter.admit("127.0.0.1", 100.0) is None for _ in range(60))
    assert limiter.admit("127.0.0.1", 100.5) is Refusal.TOO_FAST
    assert limiter.admit("127.0.0.1", 101.0) is None
    assert limiter.admit("127.0.0.1", 101.1) is Refusal.TOO_FAST


def test_a_refused_connection_is_not_counted() -> None:
    limiter = ConnectionLimiter(ConnectionLimits(connections_per_address=1, new_per_minute_per_address=2))
    assert limiter.admit("192.0.2.1", 0.0) is None
    for _ in range(5):
        assert limiter.admit("192.0.2.1", 0.0) is Refusal.TOO_MANY_FROM_ADDRESS
    limiter.release("192.0.2.1")
    assert limiter.connections == 0
    assert limiter.admit("192.0.2.1", 0.0) is None


def test_a_rate_limiter_remembers_no_more_keys_than_told() -> None:
    limiter = RateLimiter(1.0, 1.0, max_keys=10)
    for number in range(1000):
        assert limiter.take(str(number), 0.0)
    assert len(limiter) == 10
    assert not limiter.take("999", 0.0)


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    limiter = RateLimiter(1.0, 1.0)
    assert limiter.take("a", 100.0)
    assert not limiter.take("a", 50.0)
