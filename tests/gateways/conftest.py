"""The prepared store of the gateways' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.local_core import prepare_store


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with alice, bob and carol; tests copy it."""
    directory = tmp_path_factory.mktemp("template") / "data"
    prepare_store(directory)
    return directory
