"""Python's cycle collector in a process that serves: less often, and never over what was there before it began."""

from __future__ import annotations

import gc
from typing import Final

THRESHOLDS: Final = (20_000, 20, 50)
"""Objects made and not freed before a look at the young ones; young looks before a middle one; middle before a whole one.
A message makes some hundred objects, which reference counts free; what is left is mostly what waits for an answer."""


def calm_collector() -> None:
    """To be called once, when all is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
