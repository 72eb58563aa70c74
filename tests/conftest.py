"""Fixtures and plugins for every test."""

import faulthandler
import os

import pytest
from hypothesis import settings

# As root, servers of the tests are started for another user, for which Python must fork. gRPC's handlers for a fork can
# end the child before it becomes that server.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

if "CI" not in os.environ:  # there hypothesis has a profile of its own, without deadlines too
    settings.register_profile("patient", deadline=None)  # a busy machine is not a fault
    settings.load_profile("patient")

pytest_plugins = ["tests.harness.requirements", "tests.harness.postgres", "tests.harness.player", "tests.harness.loops"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Turn `faulthandler_timeout` off for tests that compile from scratch: it would end the whole run."""
    if item.get_closest_marker("builds"):
        faulthandler.cancel_dump_traceback_later()
