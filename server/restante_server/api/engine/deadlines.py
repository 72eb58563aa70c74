"""The deadlines of calls."""

from __future__ import annotations

import time

DEFAULT_TIMEOUT_SECONDS = 30.0  # of a unary call or an operation without a timeout
MAX_TIMEOUT_SECONDS = 600.0


def deadline(timeout_seconds: float | None = None) -> float:
    """The moment of `time.monotonic()` until which a unary call may run. None: the client sets no timeout."""
    if timeout_seconds is None:
        timeout_seconds = DEFAULT_TIMEOUT_SECONDS
    return time.monotonic() + min(timeout_seconds, MAX_TIMEOUT_SECONDS)


def stream_deadline(timeout_seconds: float | None) -> float:
    """The moment of `time.monotonic()` until which a stream may run; infinity if the client sets no timeout."""
    return float("inf") if timeout_seconds is None else time.monotonic() + timeout_seconds
