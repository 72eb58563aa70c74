"""SIGHUP: a process reads its configuration again, applies the keys that need no restart, and logs the others."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

import click

from restante_process import config, config_file

log = logging.getLogger(__name__)

AT_ONCE = ("tls.certificates", "logging.level", "logging.format")
"""Keys whose new value needs no restart. A reload reads the certificate files again even when these are unchanged."""


class Reload:
    """The SIGHUP handler. It calls `use` with the new configuration, or with the present one if the new is invalid."""

    def __init__(
        self,
        settings: config.Config,
        read: Callable[[], config.Config],
        use: Callable[[config.Config], None],
        end: Callable[[], None],
    ) -> None:
        """`read` raises click.ClickException. The handler calls `end` when the signal came from a closed terminal."""
        self._settings, self._read, self._use, self._end = settings, read, use, end
        self._has_terminal = _is_terminal()

    def __call__(self) -> None:
        if self._has_terminal and not _is_terminal():
            self._end()
            return
        new = self._settings
        try:
            new = self._read()
        except click.ClickException as problem:
            log.error("the configuration was not reloaded, and the old one stays in use: %s", problem.message)
        late = [key for key in config_file.changed(self._settings, new) if key not in AT_ONCE]
        if late:
            log.warning("these changed keys take effect after a restart: %s", ", ".join(late))
        self._use(new)


def _is_terminal() -> bool:
    """Whether standard input is an open terminal."""
    try:
        return os.isatty(sys.stdin.fileno())
    except (AttributeError, OSError, ValueError):  # without standard input
        return False
