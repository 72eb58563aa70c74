"""The configuration: every key has a default and documentation, and every error names the key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from restante_cli import config_keys
from restante_cli.main import main
from restante_process import config, config_file


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "restante.toml"
        path.write_text(text)
        return path

    return write


KEYS = list(config_keys.all_keys())
PLAIN = [key for key in KEYS if "[]" not in key.section and "NAME" not in key.section]
WRONG: dict[str, tuple[Any, ...]] = {
    "text": (7, True, ["x"]),
    "whole number": ("7", 1.5, True),
    "number": ("7", True),
    "true or false": (1, "true"),
    "list of strings": ("x", [1]),
    "table": ("x", []),
}


def wrong_values(key: config_keys.Key) -> tuple[Any, ...]:
    return WRONG.get(key.kind, ("no such choice", 7))


def test_every_key_is_documented() -> None:
    assert [key.path for key in KEYS if not key.about and key.name != "listeners"] == []
    assert len({key.path for key in KEYS}) == len(KEYS) > 50


@pytest.mark.parametrize("key", PLAIN, ids=lambda key: key.path)
def test_the_default_that_is_documented_is_the_one_that_holds(key: config_keys.Key) -> None:
    made = config_file.load(None, environment={}, flags={key.path: tomllib.loads(f"x = {key.default}")["x"]})
    if "listeners" not in key.path:
        assert made == config_file.load(None, environment={})


@pytest.mark.parametrize(
    ("path", "value"), [(key.path, value) for key in PLAIN for value in wrong_values(key)], ids=str
)
def test_a_wrong_value_is_named_with_its_key(path: str, value: Any) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config_file.load(None, environment={}, flags={path: value})
    assert path in str(caught.value)


@pytest.mark.parametrize("section", sorted({key.section for key in PLAIN}))
def test_a_key_that_there_is_not_is_named(section: str) -> None:
    path = f"{section}.no_such_key" if section else "no_such_key"
    with pytest.raises(config.ConfigError, match=path.replace(".", r"\.")):
        config_file.load(None, environment={}, flags={path: 1})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[imap.listeners]\nimap = { port = 'x' }", "imap.listeners.imap.port"),
        ("[imap.listeners]\nimap = { ports = 1 }", "imap.listeners.imap.ports"),
        ("[smtp.listeners.mx]\nrole = 'mx'\ntls = 'maybe'", "smtp.listeners.mx.tls"),
        (
            "[smtp.listeners.mx]\nport = 25",
            "smtp.listeners.mx.role: the key is missing; set it to 'mx' or 'submission' or 'lmtp'",
        ),
        (
            "[smtp.listeners.mx]\nrole = 'relay'",
            "smtp.listeners.mx.role: 'relay' is not allowed; choose 'mx' or 'submission' or 'lmtp'",
        ),
        ("[smtp.listeners]\nx = { role = 'lmtp' }", "smtp.listeners.x: a listener with role = 'lmtp' needs a path"),
        (
            "[smtp.listeners]\nx = { role = 'lmtp', path = '/x', port = 24 }",
            "smtp.listeners.x.path: a Unix socket has no",
        ),
        ("[smtp.listeners]\nx = { role = 'lmtp', allow_from = ['all'] }", "smtp.listeners.x.allow_from: 'all'"),
        ("[smtp.listeners]\nx = { role = 'mx', allow_from = ['::1'] }", "smtp.listeners.x.allow_from: only"),
        ("[smtp.listeners]\nx = { role = 'submission', path = '/x' }", "smtp.listeners.x.path: only"),
        ("[[tls.certificates]]\ncertificate = 1", "tls.certificates[0].certificate"),
        ("[core]\napi_port = \n[tls]", "line 2"),
        ("core = 7", "core: 7 is not a section"),
        ("[core]\napi_port = 1\napi_port = 2\n[tls]", "line 3"),
    ],
)
def test_a_mistake_in_a_file_is_named(file: Callable[[str], Path], text: str, problem: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config_file.load(file(text), environment={})
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["a b", "-x.example", "x..example", "ü.example", "x" * 64, "a." * 130 + "a", "x."])
def test_a_name_that_is_no_domain_is_refused(name: str) -> None:
    with pytest.raises(config.ConfigError) as refused:
        config_file.load(None, {}, {"transport.forwarding_domain": name})
    assert str(refused.value).startswith("transport.forwarding_domain: ")
    assert config_file.load(None, {}, {"transport.forwarding_domain": "Bounces.example"}).transport.forwarding_domain


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("failure_domains", ["example.org", "a b"]),
        ("failure_domains", [""]),
        ("failure_seconds", 0.0),
        ("failure_hourly", 0),
        ("failure_hourly_total", -1),
    ],
)
def test_settings_of_failure_reports_that_mean_nothing_are_refused(key: str, value: object) -> None:
    with pytest.raises(config.ConfigError) as refused:
        config_file.load(None, {}, {f"reports.{key}": value})
    assert str(refused.value).startswith(f"reports.{key}: ")
    reports = config_file.load(None, {}, {"reports.failure_domains": ["*", "Example.org"]}).reports
    assert reports.failure_domains == ("*", "Example.org")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(config.ConfigError, match=r"nothing\.toml"):
        config_file.load(tmp_path / "nothing.toml", environment={})


def test_environment_goes_before_the_file_and_flags_before_both(file: Callable[[str], Path]) -> None:
    path = file("[core]\napi_port = 1\ngateway_port = 1\napi_host = 'file'")
    environment = {"RESTANTE_CORE__API_PORT": "2", "RESTANTE_CORE__GATEWAY_PORT": "2", "RESTANTE_CORE__API_HOST": "::1"}
    made = config_file.load(path, environment=environment, flags={"core.gateway_port": 3})
    assert (made.core.api_port, made.core.gateway_port, made.core.api_host) == (2, 3, "::1")


def test_the_environment_takes_lists_and_says_what_is_wrong() -> None:
    made = config_file.load(None, environment={"RESTANTE_RELAY__NAMESERVERS": '["192.0.2.1:53"]'})
    assert made.relay.nameservers == ("192.0.2.1:53",)
    with pytest.raises(config.ConfigError, match=r"core\.api_prot"):
        config_file.load(None, environment={"RESTANTE_CORE__API_PROT": "2"})
    assert config_file.load(
        None, environment={"RESTANTE_NO_SKIP": "1", "RESTANTE_MAIL_SESSION": "x"}
    ) == config_file.load(None, environment={})


def test_what_restante_config_prints_is_a_file_with_all_defaults(file: Callable[[str], Path]) -> None:
    printed = CliRunner().invoke(main, ["config"])
    assert printed.exit_code == 0
    assert config_file.load(file(printed.stdout), environment={}) == config_file.load(None, environment={})
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line and not line.endswith(")") else line
        for line in printed.stdout.split("# [[")[0].splitlines()
    )
    assert "data" in tomllib.loads(uncommented)


def test_a_file_can_be_checked(file: Callable[[str], Path]) -> None:
    good = CliRunner().invoke(main, ["config", "--check", str(file("[core]\napi_port = 1"))])
    assert good.exit_code == 0
    bad = CliRunner().invoke(main, ["config", "--check", str(file("[core]\napi_prot = 1"))])
    assert bad.exit_code == 1
    assert "core.api_prot: unknown key" in bad.stderr


@pytest.mark.parametrize(
    ("key", "flags"),
    [
        ("greylisting.wait_seconds", {"greylisting.wait_seconds": -1}),
        ("greylisting.wait_seconds", {"greylisting.wait_seconds": float("nan")}),
        ("greylisting.keep_days", {"greylisting.keep_days": 1e9}),
        ("greylisting.retry_hours", {"greylisting.retry_hours": 1, "greylisting.wait_seconds": 3600}),
        ("greylisting.proven_after", {"greylisting.proven_after": -1}),
        ("greylisting.skip_passing", {"greylisting.skip_passing": ["dkim"]}),
        ("greylisting.skip_passing", {"greylisting.skip_passing": ["helo"], "checks.spf": False}),
        ("greylisting.skip_passing", {"greylisting.skip_passing": ["reverse-dns"], "checks.reverse_dns": False}),
    ],
)
def test_a_bad_value_of_greylisting_is_named(key: str, flags: dict[str, object]) -> None:
    with pytest.raises(config.ConfigError) as refused:
        config_file.load(None, {}, flags)
    assert str(refused.value).startswith(key)
    assert config_file.load(None, {}, {"greylisting.skip_passing": ["spf"]}).greylisting.skip_passing == ("spf",)
