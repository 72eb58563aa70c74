"""Upkeep uses the store's fixtures, with the same checks at the end of each test."""

from __future__ import annotations

from tests.server.store.conftest import _tenancy, box, other

__all__ = ["_tenancy", "box", "other"]
