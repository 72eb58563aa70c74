"""Password guessing is slowed for its source only."""

from __future__ import annotations

import pytest

from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import throttle
from restante_server.directory.keys import KeyRing
from restante_server.directory.settings import ThrottleSettings
from restante_server.directory.throttle import Failures, Throttle
from tests.server.directory.material import NOW, SECOND

RING = KeyRing({1: bytes(32)})
SETTINGS = ThrottleSettings()


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2"),
    ],
)
def test_an_ipv6_client_is_its_64_and_a_mapped_one_its_ipv4(address: str, same: str) -> None:
    assert throttle.network(address) == throttle.network(same)


def test_neighbouring_addresses_are_distinguished() -> None:
    assert throttle.network("192.0.2.1") != throttle.network("192.0.2.2")
    assert throttle.network("2001:db8:0:1::1") != throttle.network("2001:db8:0:2::1")


@pytest.mark.parametrize(
    ("count", "age_seconds", "delay"),
    [(1, 0, 0.0), (4, 0, 0.0), (5, 0, 1.0), (6, 0, 2.0), (8, 3, 5.0), (8, 8, 0.0), (40, 0, 900.0), (40, 3_600, 0.0)],
)
def test_delays_double_up_to_a_bound_and_are_forgotten(count: int, age_seconds: int, delay: float) -> None:
    failures = Failures(count, NOW - age_seconds * SECOND)
    assert throttle.delay_seconds(failures, SETTINGS.free_failures, SETTINGS, NOW) == pytest.approx(delay)


def test_failures_slow_the_account_from_that_address_alone() -> None:
    policy = Throttle(SETTINGS)
    guesser = throttle.keys(RING, "192.0.2.1", "alice@example.test")
    for _ in range(SETTINGS.free_failures):
        policy.failed(guesser, {}, NOW)
    assert policy.wait_seconds(guesser, {}, NOW) > 0
    assert policy.wait_seconds(throttle.keys(RING, "192.0.2.9", "alice@example.test"), {}, NOW) == 0  # her own place
    assert policy.wait_seconds(throttle.keys(RING, "192.0.2.1", "bob@example.test"), {}, NOW) == 0


def test_trying_many_names_slows_the_address() -> None:
    policy = Throttle(SETTINGS)
    for number in range(SETTINGS.free_address_failures):
        policy.failed(throttle.keys(RING, "192.0.2.1", f"user{number}@example.test"), {}, NOW)
    assert policy.wait_seconds(throttle.keys(RING, "192.0.2.1", "bob@example.test"), {}, NOW) > 0


def test_memory_stays_bounded() -> None:
    policy = Throttle(ThrottleSettings(local_entries=10))
    for number in range(100):
        policy.failed(throttle.keys(RING, f"192.0.2.{number}", "alice@example.test"), {}, NOW)
    assert len(policy._recent) == 10


async def test_rows_count_for_every_core_and_start_afresh_when_forgotten(database: Database) -> None:
    keys = throttle.keys(RING, "192.0.2.1", "alice@example.test")
    for _ in range(3):
        await database.write(Write(lambda tx: throttle.record(tx, keys, NOW, SETTINGS)))
    rows = await database.read(throttle.failures, keys)
    assert rows[keys.account] == Failures(3, NOW) and rows[keys.address] == Failures(3, NOW)
    later = NOW + (SETTINGS.forget_seconds + 1) * SECOND
    await database.write(Write(lambda tx: throttle.record(tx, keys, later, SETTINGS)))
    assert (await database.read(throttle.failures, keys))[keys.account] == Failures(1, later)
    await database.write(Write(lambda tx: throttle.forget(tx, later + 3_601 * SECOND, SETTINGS)))
    assert await database.read(throttle.failures, keys) == {}
