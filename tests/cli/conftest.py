"""The output of commands that a test runs beside a core in its own process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_apart() -> Iterator[None]:
    """Keep the log of the core out of the standard output, which a test reads as that of a command."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    yield
    structlog.reset_defaults()
