"""One demo for all end-to-end tests: data left by one test must not matter to another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.demo import Demo, running_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The whole running platform: see `tests.harness.demo.Demo` for ports, users and passwords."""
    with running_demo(tmp_path_factory.mktemp("demo") / "data") as started:
        yield started
