"""The place of the computations of a check: the caller's choice, and at once by default. *Pure.*"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

__all__ = ["Compute", "at_once"]

Value = TypeVar("Value")


class Compute(Protocol):
    """Runs one computation without I/O, such as the verification of one signature, and returns its value.

    An evaluator calls it for one computation after another, so that a caller with an event loop can do other work
    between them, or run them on a thread.
    """

    async def __call__(self, work: Callable[[], Value]) -> Value:
        """The value of `work()`."""
        ...


async def at_once(work: Callable[[], Value]) -> Value:
    """See Compute."""
    return work()
