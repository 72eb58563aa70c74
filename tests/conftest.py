"""Fixtures and plugins for every test."""

import faulthandler

import pytest

pytest_plugins = ["tests.harness.requirements", "tests.harness.postgres", "tests.harness.player", "tests.harness.loops"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Turn `faulthandler_timeout` off for tests that compile from scratch: it would end the whole run."""
    if item.get_closest_marker("builds"):
        faulthandler.cancel_dump_traceback_later()
