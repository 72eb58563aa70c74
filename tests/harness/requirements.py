"""Programs that tests need from the machine, and the skips when one is missing.

A marker names the programs that a test runs:

    @pytest.mark.needs("mbsync", "curl")

Without one of the programs the test is skipped with a reason that names the Debian package. With RESTANTE_NO_SKIP=1 in
the environment (CI) a missing program is a failure instead, and a run with any skipped test fails as a whole.

This module is a pytest plugin, loaded by tests/conftest.py.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "curl": "curl",
    "fetchmail": "fetchmail",
    "git": "git",
    "mbsync": "isync",
    "mutt": "mutt",
    "opendkim": "opendkim",
    "opendmarc": "opendmarc",
    "postfix": "postfix",
    "msmtp": "msmtp",
    "openssl": "openssl",
    "postsrsd": "postsrsd",
    "swaks": "swaks",
    "unbound": "unbound",
    "node": "nodejs",
    "npm": "npm",
    "go": "golang-go",
    "cargo": "cargo",
    "rustfmt": "rustfmt",
    "javac": "default-jdk-headless",
    "mvn": "maven",
    "cmake": "cmake",
    "g++": "g++",
    "grpc_cpp_plugin": "protobuf-compiler-grpc",
    "grpc_php_plugin": "protobuf-compiler-grpc",
    "grpc_ruby_plugin": "protobuf-compiler-grpc",
    "protoc": "protobuf-compiler",
    "mcs": "mono-mcs",
    "php": "php-cli",
    "ruby": "ruby",
}
"""Programs that tests may need, each with its Debian package."""


def no_skip() -> bool:
    """Whether this run allows no test to be skipped."""
    return os.environ.get("RESTANTE_NO_SKIP") == "1"


def missing(reason: str) -> NoReturn:
    """Skip the running test, or fail it when no test may be skipped."""
    if no_skip():
        pytest.fail(f"{reason} (RESTANTE_NO_SKIP=1 allows no skip)", pytrace=False)
    pytest.skip(reason)  # noqa: TID251 - the one place


def program(name: str) -> Path:
    """Path of a program of PACKAGES on PATH. Without it the test ends as in `missing`."""
    package = PACKAGES[name]
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed (Debian package {package})")
    return Path(found)


def postgres_binaries() -> Path:
    """Folder with `initdb` and `postgres`: Debian's newest, or else PATH's. Otherwise the test ends as in `missing`."""
    debian = [folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if folder.parent.name.isdigit()]
    for folder in sorted(debian, key=lambda folder: int(folder.parent.name), reverse=True):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        missing("no PostgreSQL server is installed (Debian package postgresql), and RESTANTE_TEST_POSTGRES is not set")
    return Path(found).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): skipped where one of the programs is not installed")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            program(name)


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return 0 if reporter is None else len(reporter.stats.get("skipped", []))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if no_skip() and exitstatus == pytest.ExitCode.OK and _skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if no_skip() and (count := _skipped(config)):
        terminalreporter.write_line(f"FAILED: {count} skipped, and RESTANTE_NO_SKIP=1 allows none", red=True)
