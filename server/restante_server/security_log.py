"""The operators' security log of failed logins, with the names that clients tried. No other log has such names."""

from __future__ import annotations

import json
import logging
import logging.handlers
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from restante_process.logs import timestamp
from restante_server.directory.hooks import LoginObserver

FILE_OCTETS = 10 << 20  # of one file before the log begins the next
OLD_FILES = 9
NAME_OCTETS = 320  # the longest address (RFC 5321 4.5.3.1); a tried name may be longer


class SecurityLog(LoginObserver):
    """Writes one JSON line for each failed login, into a bounded series of files that only their owner can read."""

    def __init__(self, registry: CollectorRegistry, file: Path) -> None:
        self._failed = Counter(
            "restante_login_failures",
            "Number of failed logins, by protocol and reason.",
            ["protocol", "reason"],
            registry=registry,
        )
        self._file = logging.handlers.RotatingFileHandler(
            file, maxBytes=FILE_OCTETS, backupCount=OLD_FILES, encoding="utf-8", errors="backslashreplace", delay=True
        )

    def failed(self, protocol: str, reason: str, name: str, client_address: str) -> None:
        """See LoginObserver."""
        self._failed.labels(protocol, reason).inc()
        line = {
            "timestamp": timestamp(datetime.now(UTC)),
            "level": "warning",
            "process": "core",
            "event": "login failed",
            "protocol": protocol,
            "reason": reason,
            "name": name[:NAME_OCTETS],
            "client": client_address,
        }
        text = json.dumps(line, ensure_ascii=False)
        self._file.handle(logging.LogRecord("security", logging.WARNING, "", 0, text, None, None))

    def close(self) -> None:
        """See LoginObserver."""
        self._file.close()
