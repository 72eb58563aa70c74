"""Importing a module of handlers puts them into the registry: this imports every module of the package."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from restante_server import api


def load() -> None:
    """Import every module of `api`; harmless to repeat."""
    for module in pkgutil.iter_modules(api.__path__):
        import_module(f"{api.__name__}.{module.name}")
