"""Importing a module of handlers puts them into the registry; this is the list of those there are."""

from __future__ import annotations

from importlib import import_module

MODULES = (
    "admin",
    "backup",
    "contents",
    "directory",
    "folders",
    "mailboxes",
    "messages",
    "queue",
    "search",
    "sessions",
    "submission",
    "sync",
    "transport",
    "watch",
)


def load() -> None:
    """Import every module of handlers; harmless to repeat."""
    for name in MODULES:
        import_module(f"restante_server.api.{name}")
