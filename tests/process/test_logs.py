"""One format of log lines in every process, without secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from restante_process import logs

FORMS: tuple[Literal["json", "console"], ...] = ("json", "console")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in logs.OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_formats_and_levels_are_checked() -> None:
    wrong: Any = "xml"
    with pytest.raises(ValueError, match="xml"):
        logs.configure("imap", form=wrong)
    with pytest.raises(ValueError, match="loud"):
        logs.configure("imap", level="loud")


@pytest.mark.parametrize("form", FORMS)
def test_both_formats_write_one_line_to_standard_error(
    form: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("imap", form=form)
    structlog.get_logger("x").info("certificate loaded", names=("a", "b"))
    structlog.get_logger("x").debug("not shown")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "certificate loaded" in err
    if form == "json":
        assert json.loads(err)["names"] == ["a", "b"]


def test_lines_of_structlog_and_of_the_standard_library_have_the_same_members_in_the_same_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("core")
    structlog.get_logger("x").warning("one", port=25)
    logging.getLogger("restante_server.app").warning("another: %s", "x")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [list(line) for line in lines] == [["timestamp", "level", "process", "event", "port"], [*logs.FIRST]]
    assert lines[1] | {"timestamp": ""} == {
        "timestamp": "", "level": "warning", "process": "core", "event": "another: x",
    }  # fmt: skip
    assert lines[0]["timestamp"].endswith("Z")
    assert len(lines[0]["timestamp"]) == len("2026-01-31T23:59:59.999Z")


def test_libraries_log_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("smtp")
    logging.getLogger("some.library").info("sender: alice@example.test")
    logging.getLogger("restante_gateways.smtp").info("ours")
    logging.getLogger("some.library").warning("something is wrong")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == [
        "ours",
        "something is wrong",
    ]


@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_logged_traceback_shows_no_values(
    form: Literal["json", "console"], standard: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(password: str) -> None:
        raise KeyError(len(password))

    logs.configure("core", form=form)
    try:
        fail("alice" + "-demo")
    except KeyError as error:
        if standard:
            logging.getLogger("restante_server").error("session failed", exc_info=error)
        else:
            structlog.get_logger("x").error("session failed", exc_info=error)
    err = capsys.readouterr().err
    assert "KeyError" in err
    assert "alice-demo" not in err
    if form == "json":
        assert json.loads(err)["exception"]
