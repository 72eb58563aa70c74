"""Importing a module of handlers puts them into the registry: this imports every module of the package."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from restante_server.api import services


def load() -> None:
    """Import every module of `services`; harmless to repeat."""
    for module in pkgutil.iter_modules(services.__path__):
        import_module(f"{services.__name__}.{module.name}")
