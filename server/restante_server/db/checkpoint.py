"""Checkpoints of SQLite's write-ahead log, on a separate thread, so that no commit waits for the copying of pages."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


class Checkpointer:
    """Copies the log into the file after so many written octets or so many seconds.

    It uses the PASSIVE mode, which neither waits for other connections nor delays them. A writer that never pauses
    keeps a passive checkpoint from reaching the end of the log, and the log grows. Above `log_octets` the checkpointer
    therefore sets `wants_writer`: the writer copies the small rest between two groups, and its next commit starts the
    log from the beginning.
    """

    def __init__(
        self,
        path: Path,
        octets: int,
        seconds: float,
        log_octets: int,
        timed: Callable[[float, int], object] | None = None,
    ) -> None:
        """Start the thread. `timed` gets the seconds of each checkpoint and the pages then in the log, on the thread of
        the checkpoint."""
        self.wants_writer = False
        self._octets, self._seconds, self._log_octets = octets, seconds, log_octets
        self._timed = timed
        self._written = 0
        self._commits = 0
        self._wake = threading.Event()
        self._closing = False
        self._driver = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._driver.execute("PRAGMA busy_timeout=5000")
        self._driver.execute("PRAGMA synchronous=FULL")
        self._thread = threading.Thread(target=self._work, name="restante-checkpoint", daemon=True)
        self._thread.start()

    def committed(self, octets: int) -> None:
        """Note a commit of about so many octets. The writer calls this after each commit."""
        self._commits += 1
        self._written += octets
        if self._written >= self._octets:
            self._written = 0
            self._wake.set()

    def run_on_writer(self, driver: sqlite3.Connection) -> None:
        """Make the checkpoint that `wants_writer` requests, on the writer's connection, outside a transaction."""
        self.wants_writer = False  # if an old snapshot keeps it from the end of the log, the thread sets this again
        self._run_on(driver)

    def _run_on(self, driver: sqlite3.Connection) -> int:
        """Make a passive checkpoint; returns the octets in the log. Logs database errors and returns 0."""
        began = time.perf_counter()
        try:
            _busy, pages, _copied = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            log.warning("the checkpoint of SQLite's log failed; the log is kept", exc_info=True)
            return 0
        if pages < 0:  # the other connection is making a checkpoint
            return 0
        page_octets: int = driver.execute("PRAGMA page_size").fetchone()[0]
        if self._timed is not None:
            self._timed(time.perf_counter() - began, pages)
        return int(pages) * page_octets

    def close(self) -> None:
        """End the thread with a last checkpoint, which empties the log. All other connections must be closed."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        driver = self._driver
        seen = 0
        while not self._closing:
            self._wake.wait(self._seconds)
            self._wake.clear()
            if self._commits != seen and not self._closing:
                seen = self._commits
                # Only the writer can find out whether its writes meanwhile kept the checkpoint from the log's end.
                self.wants_writer = self._run_on(driver) > self._log_octets
        try:
            driver.execute("PRAGMA optimize")
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            log.warning("the last checkpoint of SQLite's log failed; the log is kept", exc_info=True)
        driver.close()
