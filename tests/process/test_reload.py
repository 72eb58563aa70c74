"""The effect of SIGHUP on the configuration."""

from __future__ import annotations

import logging
from dataclasses import replace

import click
import pytest

from restante_process import config, config_file, reload
from restante_process.reload import Reload

OLD = config.Config()
NEW = replace(OLD, core=replace(OLD.core, api_port=1), logging=replace(OLD.logging, level="debug"), data="/elsewhere")


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    """Let the log through again, which earlier commands in this process have silenced."""
    caplog.set_level(logging.WARNING, reload.__name__)


def test_keys_that_differ_are_named() -> None:
    assert config_file.changed(OLD, OLD) == []
    assert config_file.changed(OLD, NEW) == ["data", "core.api_port", "logging.level"]
    pairs = (config.Certificate(certificate="a.pem"),)
    assert config_file.changed(OLD, replace(OLD, tls=replace(OLD.tls, certificates=pairs))) == ["tls.certificates"]


def test_a_new_configuration_is_used_and_late_keys_are_named(caplog: pytest.LogCaptureFixture) -> None:
    used: list[config.Config] = []
    Reload(OLD, lambda: NEW, used.append, pytest.fail)()
    assert used == [NEW]
    assert [record.getMessage() for record in caplog.records] == [
        "these changed keys take effect after a restart: data, core.api_port"
    ]


def test_a_configuration_that_is_wrong_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> config.Config:
        raise click.ClickException("core.api_prot: unknown key")

    used: list[config.Config] = []
    Reload(OLD, read, used.append, pytest.fail)()
    assert used == [OLD], "files of certificates are read again all the same"
    assert "core.api_prot" in caplog.text


def test_the_end_of_the_terminal_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    there, ended = [True], []
    monkeypatch.setattr(reload, "_is_terminal", lambda: there[0])
    hung_up = Reload(OLD, lambda: OLD, lambda _: logging.getLogger().debug("read"), lambda: ended.append(1))
    hung_up()
    assert not ended
    there[0] = False
    hung_up()
    assert ended == [1]
