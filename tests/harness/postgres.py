"""PostgreSQL for tests: a private cluster for the session, and an empty database in milliseconds for a test.

RESTANTE_TEST_POSTGRES may name a server to use instead (`postgresql://user:password@host:port/database`, whose user may
create databases). Otherwise the tests make a cluster in a temporary folder, with a Unix socket there as the only way to
it, and without fsync: tests on it show everything but safety against power loss. `kill -9` of a Restante process loses
nothing on it.

This module is a pytest plugin, loaded by tests/conftest.py.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, make_url

from tests.harness.requirements import postgres_binaries

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
}
START_TIMEOUT_SECONDS = 60.0


class PostgresServer:
    """A running server in which databases can be made and dropped."""

    def __init__(self, maintenance: URL) -> None:
        self._maintenance = maintenance

    def _run(self, statement: sql.Composed) -> None:
        plain = self._maintenance.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement)

    def create_database(self, template: str = "template0") -> str:
        """Create a database with a unique name; returns its SQLAlchemy URL (`postgresql+psycopg://...`).

        `template` is the name of a database to copy, schema and rows; it must have no connection.
        """
        name = f"restante_test_{os.getpid()}_{secrets.token_hex(4)}"
        self._run(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return self._maintenance.set(drivername="postgresql+psycopg", database=name).render_as_string(False)

    def drop_database(self, url: str) -> None:
        """Drop a database by its URL, and end all connections to it."""
        name = make_url(url).database
        assert name is not None and name.startswith("restante_test_"), "only databases made here are dropped"
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """A database for the time of the context; yields its URL."""
        url = self.create_database(template)
        try:
            yield url
        finally:
            self.drop_database(url)


def _owner() -> tuple[int, int] | None:
    """(uid, gid) to run the server as; None for the current user. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise RuntimeError("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


class Cluster:
    """A private PostgreSQL cluster in `folder`. A test that shares it with no other may stop, freeze and start it."""

    def __init__(self, binaries: Path, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings`: of the server, beside and before SETTINGS."""
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = SETTINGS | dict(settings or {})
        self._binaries, self.folder = binaries, folder
        self._owner = _owner()
        self._log = folder / "log"
        self.maintenance = URL.create(
            "postgresql+psycopg", username="restante", database="postgres", query={"host": str(folder)}
        )

    def _start_process(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        user, group = self._owner or (None, None)
        groups: list[int] | None = None if self._owner is None else []
        with self._log.open("ab") as log:
            return subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=user,
                group=group,
                extra_groups=groups,
                start_new_session=True,  # Ctrl-C reaches only the test run, which then stops the server
            )

    def _failed(self, what: str) -> RuntimeError:
        return RuntimeError(f"{what} failed:\n{self._log.read_text(errors='replace')[-4000:]}")

    def create(self) -> None:
        if self._owner is not None:
            os.chown(self.folder, *self._owner)
        options = ["--auth=trust", "--username=restante", "--encoding=UTF8", "--locale=C", "--no-sync"]
        data = str(self.folder / "data")
        if self._start_process([str(self._binaries / "initdb"), f"--pgdata={data}", *options]).wait() != 0:
            raise self._failed("initdb")

    def start(self) -> None:
        """Start the cluster and wait until it answers."""
        settings = self._settings | {"unix_socket_directories": str(self.folder)}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        # With setpriv the cluster also ends when the test run is killed.
        tied = [found, "--pdeathsig", "INT"] if (found := shutil.which("setpriv")) else []
        postgres = [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), *options]
        process = self._process = self._start_process([*tied, *postgres])
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        plain = self.maintenance.set(drivername="postgresql").render_as_string()
        while True:
            try:
                psycopg.connect(plain).close()
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise self._failed("starting PostgreSQL") from None
                time.sleep(0.05)
            else:
                return

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the cluster: SIGSTOP freezes it, SIGCONT resumes it."""
        assert self._process is not None
        for process in (main := psutil.Process(self._process.pid)).children(recursive=True):
            process.send_signal(number)
        main.send_signal(number)

    def stop(self) -> None:
        """Shut the cluster down. A second call does nothing."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)  # "fast": ends its connections, then itself
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def own_cluster(settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A running private cluster for the time of the context, with some settings of its own."""
    binaries = postgres_binaries()
    # A socket's path may have at most 107 octets, so a long TMPDIR is not usable.
    folder = Path(tempfile.mkdtemp(prefix="restante-postgres-", dir="/tmp"))
    try:
        cluster = Cluster(binaries, folder, settings)
        cluster.create()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_cluster() -> Iterator[URL]:
    """A running private cluster; yields the URL of its `postgres` database."""
    with own_cluster() as cluster:
        yield cluster.maintenance


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL server of the test session; skips without one (tests/harness/requirements.py)."""
    given = os.environ.get("RESTANTE_TEST_POSTGRES")
    if given:
        yield PostgresServer(make_url(given))
        return
    with running_cluster() as maintenance:
        yield PostgresServer(maintenance)


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL of a database that is new in this test session."""
    with postgres.database() as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL of an empty database for this test alone."""
    with postgres.database() as url:
        yield url
