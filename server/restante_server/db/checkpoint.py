"""Checkpoints of SQLite's write-ahead log, on a thread of their own: no commit ever waits to copy pages."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


class Checkpointer:
    """Copies the log into the file when enough was written or enough time has passed.

    It works in PASSIVE mode, which waits for nobody and delays nobody. A writer that never pauses keeps a passive
    checkpoint from ever reaching the log's end, and the log then only grows: past `log_octets` the writer is asked
    (`wants_writer`) to copy the small rest itself, between two groups, so that its next commit starts the log anew.
    """

    def __init__(
        self,
        path: Path,
        octets: int,
        seconds: float,
        log_octets: int,
        timed: Callable[[float, int], object] | None = None,
    ) -> None:
        """`timed` is told the seconds of each checkpoint and the pages then in the log, on the thread that made it."""
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
        """Called by the writer after each commit with about how much it wrote."""
        self._commits += 1
        self._written += octets
        if self._written >= self._octets:
            self._written = 0
            self._wake.set()

    def run_on_writer(self, driver: sqlite3.Connection) -> None:
        """The checkpoint that was asked for by `wants_writer`, on the writer's connection, outside a transaction."""
        self.wants_writer = False  # a reader of an old snapshot may keep it from the end: the thread will ask again
        self._run_on(driver)

    def _run_on(self, driver: sqlite3.Connection) -> int:
        """One passive checkpoint; the octets in the log. A locked, full or broken disk is logged, not raised."""
        began = time.perf_counter()
        try:
            _busy, pages, _copied = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            log.warning("checkpoint failed, the log is kept", exc_info=True)
            return 0
        if pages < 0:  # the other of us is at it
            return 0
        page_octets: int = driver.execute("PRAGMA page_size").fetchone()[0]
        if self._timed is not None:
            self._timed(time.perf_counter() - began, pages)
        return int(pages) * page_octets

    def close(self) -> None:
        """The last checkpoint, which empties the log, and the end of the thread. No other connection is open by now."""
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
                # What the writer has added meanwhile is in neither figure: whether the end was reached, it alone knows.
                self.wants_writer = self._run_on(driver) > self._log_octets
        try:
            driver.execute("PRAGMA optimize")
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            log.warning("last checkpoint failed, the log is kept", exc_info=True)
        driver.close()
