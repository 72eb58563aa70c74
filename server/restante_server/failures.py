"""One-line messages for the operator when the store cannot be opened: the failure, its place, its cause, and advice."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator

import click
import psycopg
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from restante.errors import RestanteError
from restante_process.config import Config, ConfigError
from restante_server.db.errors import DatabaseError, NoStore, UnknownSchema

ADVICE: tuple[tuple[str, str], ...] = (
    ("password", "Correct the user and the password in store.url"),
    ("pg_hba.conf", "Admit this user and address in the server's pg_hba.conf, or correct store.url"),
    ("role ", "Create the role with `createuser`, or correct store.url"),
    ("database ", "Create the database with `createdb`, or correct store.url"),
    ("translate host name", "Correct the host in store.url"),
    ("resolve host", "Correct the host in store.url"),
    ("starting up", "Try again when the server has started"),
    ("too many", "Raise max_connections of the server, or end other connections to it"),
)
"""Pairs of words in the message of the server or its driver, and advice."""


DRIVERS = (DBAPIError, psycopg.Error, sqlite3.Error)


@contextlib.contextmanager
def click_errors(config: Config) -> Iterator[None]:
    """Turn the errors of opening the store into click.ClickException."""
    try:
        yield
    except (ConfigError, DatabaseError, RestanteError, OSError, ArgumentError, *DRIVERS) as error:
        raise click.ClickException(described(error, config)) from None


def described(error: Exception, config: Config) -> str:
    """One line about an error and its causes, without secrets."""
    cause: BaseException | None = error
    while cause is not None:
        driver = cause.orig if isinstance(cause, DBAPIError) else cause
        if isinstance(driver, psycopg.Error):
            return _postgresql(driver, config)
        if isinstance(driver, sqlite3.Error):
            return _sqlite(driver, config)
        cause = cause.__cause__
    if isinstance(error, ArgumentError):
        return "store.url is not a database URL; write sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
    if isinstance(error, NoStore) or (isinstance(error, UnknownSchema) and error.migratable):
        return f"{error}. Run `restante store migrate` with the same options."
    if isinstance(error, RestanteError):
        return f"{error.detail} [{error.reason}]"
    if isinstance(error, OSError):
        return _system(error, config)
    return str(error)


def _postgresql(error: psycopg.Error, config: Config) -> str:
    message = " ".join(str(error).split()).removeprefix("connection failed: ").removeprefix("connection is bad: ")
    message = message.partition(" Is the server running")[0].rstrip(".")
    advice = next((todo for words, todo in ADVICE if words in message), "Start the server, or correct store.url")
    return f"the database {_shown(config)} cannot be used: {message}. {advice}."


def _sqlite(error: sqlite3.Error, config: Config) -> str:
    name = getattr(error, "sqlite_errorname", "")
    advice = {
        "SQLITE_BUSY": "End the other program that has it open",
        "SQLITE_CANTOPEN": "Create its directory, or run this as the user that owns it",
        "SQLITE_CORRUPT": "Restore a backup with `restante store restore`",
        "SQLITE_FULL": "Make room on the disk",
        "SQLITE_NOTADB": "Name a store of Restante in store.url",
        "SQLITE_READONLY": "Run this as the user that owns the file",
    }
    known = next(
        (todo for prefix, todo in advice.items() if name.startswith(prefix)),
        "Look for errors of the disk in the system's log",
    )
    return f"the database {_shown(config)} cannot be used: {error}. {known}."


def _shown(config: Config) -> str:
    return make_url(config.store_url).render_as_string(hide_password=True)


def _system(error: OSError, config: Config) -> str:
    place = error.filename or config.directory
    if isinstance(error, FileNotFoundError | NotADirectoryError) and not config.directory.is_dir():
        return (
            f"the data directory {config.directory} does not exist. Create an installation with `restante init`, "
            "or name another directory by --data or --config."
        )
    if isinstance(error, PermissionError):
        return f"{place}: permission denied. Run this as the user that owns {config.directory}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}: the disk is full. Free some space."
    if error.errno == errno.EROFS:
        return f"{place}: the file system is read-only. Mount it for writing, or name another directory."
    return f"{place}: {error.strerror}" if error.filename and error.strerror else str(error)
