"""The processes of `restante up`: their numbers, names, ports and cores."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from restante_cli import ports, processes
from restante_cli.up import PORTS
from restante_process import config, config_file

FILE = Path("/srv/mail/restante.toml")
POSTGRES = config.Store(url="postgresql:///mail")


def installed(**sections: object) -> config.Config:
    return config.Config(data="/srv/mail", **sections)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("store", "processors", "numbers"),
    [
        (config.Store(), 1, {"core": 1, "smtp": 1, "imap": 1, "pop3": 1, "relay": 1}),
        (config.Store(), 2, {"core": 1, "smtp": 1, "imap": 1, "pop3": 1, "relay": 1}),
        (config.Store(), 4, {"core": 1, "smtp": 2, "imap": 2, "pop3": 1, "relay": 1}),
        (config.Store(), 64, {"core": 1, "smtp": 2, "imap": 2, "pop3": 1, "relay": 1}),
        (POSTGRES, 2, {"core": 1, "smtp": 1, "imap": 1, "pop3": 1, "relay": 1}),
        (POSTGRES, 8, {"core": 4, "smtp": 2, "imap": 2, "pop3": 1, "relay": 1}),
        (POSTGRES, 16, {"core": 8, "smtp": 4, "imap": 4, "pop3": 1, "relay": 1}),
        (POSTGRES, 128, {"core": 8, "smtp": 8, "imap": 8, "pop3": 1, "relay": 1}),
    ],
)
def test_numbers_fit_the_machine_and_the_database(
    store: config.Store, processors: int, numbers: dict[str, int]
) -> None:
    assert processes.counts(installed(store=store), processors) == numbers


def test_the_configuration_has_the_last_word() -> None:
    given = config.Processes(core=3, smtp=1, imap=4, pop3=2)
    numbers = processes.counts(installed(store=POSTGRES, processes=given), 1)
    assert numbers == {"core": 3, "smtp": 1, "imap": 4, "pop3": 2, "relay": 1}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (config.Processes(core=2), "processes.core: a SQLite store has one core"),
        (config.Processes(imap=-1), "processes.imap: must be 1 or more"),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_name(given: config.Processes, problem: str) -> None:
    with pytest.raises(config.ConfigError, match=problem):
        processes.counts(installed(processes=given), 8)


def test_one_process_of_a_kind_has_the_settings_of_the_file_alone() -> None:
    made = processes.plan(installed(), FILE, 2)
    assert [each.name for each in made] == ["core", "smtp", "imap", "pop3", "relay"]
    assert all("--set" not in each.arguments for each in made)
    assert [each.health_port for each in made] == [9091, 9094, 9092, 9093, 9095]


def test_a_further_gateway_shares_the_listeners_and_has_a_health_port_of_its_own() -> None:
    made = {each.name: each for each in processes.plan(installed(processes=config.Processes(imap=2)), FILE, 1)}
    first, second = (settings_of(made[name]) for name in ("imap", "imap-2"))
    assert first.limits.reuse_port and second.limits.reuse_port
    assert not settings_of(made["smtp"]).limits.reuse_port
    assert (
        (first.health.imap, second.health.imap)
        == (9092, 9192)
        == (made["imap"].health_port, made["imap-2"].health_port)
    )


def test_several_cores_share_the_database_and_each_is_the_first_choice_of_as_many_gateways() -> None:
    numbers = config.Processes(core=2, smtp=2, imap=2, pop3=1)
    made = {each.name: each for each in processes.plan(installed(store=POSTGRES, processes=numbers), FILE, 1)}
    second = settings_of(made["core-2"])
    assert (second.data, second.store.url) == ("/srv/mail/core-2", "postgresql:///mail")
    assert second.contents_directory == Path("/srv/mail/contents")
    assert second.security_file == Path("/srv/mail/security-2.log")
    assert (second.core.api_port, second.core.gateway_port, second.health.core) == (50151, -1, 9191)
    chosen = [
        settings_of(made[name]).core_addresses[0] for name in ("smtp", "smtp-2", "imap", "imap-2", "pop3", "relay")
    ]
    assert sorted(chosen) == 3 * ["unix:/srv/mail/core-2/core.sock"] + 3 * ["unix:/srv/mail/core.sock"]
    assert chosen[0] != chosen[1] and chosen[2] != chosen[3]
    assert all(len(settings_of(each).core_addresses) == 2 for each in made.values() if each.kind != "core")


def test_a_path_too_long_for_a_socket_is_refused() -> None:
    settings = config.Config(data="/srv/" + 100 * "m", store=POSTGRES, processes=config.Processes(core=2))
    with pytest.raises(config.ConfigError, match="is too long for a socket"):
        processes.plan(settings, FILE, 1)


def test_the_ports_of_further_processes_are_among_those_that_must_be_free() -> None:
    settings = installed(store=POSTGRES, processes=config.Processes(core=2, smtp=2))
    added = set(ports.needed(settings, processes.plan(settings, FILE, 1))) - set(ports.needed(settings))
    assert {(key, port) for key, _, port in added} == {
        ("health.core of core-2", 9191),
        ("core.api_port of core-2", 50151),
        ("health.smtp of smtp-2", 9194),
    }


def test_no_two_processes_of_the_largest_installation_above_a_base_port_want_one_port() -> None:
    health = config.Health(up=2090, core=2091, imap=2092, pop3=2093, smtp=2094, relay=2095)
    core = config.Core(api_port=2051, gateway_port=2052)
    most = config.Processes(core=8, smtp=8, imap=8, pop3=8)
    settings = installed(store=POSTGRES, processes=most, health=health, core=core)
    wanted = [port for _, _, port in processes.further_ports(settings, processes.plan(settings, FILE, 128))]
    assert len(wanted) == 7 * 6
    assert len({*wanted, *range(2051, 2053), *range(2090, 2096)} - {2000 + port for port in PORTS.values()}) == 50


def settings_of(planned: processes.Planned) -> config.Config:
    """The configuration of a process, as its options set it."""
    words = planned.arguments
    texts = [value for option, value in itertools.pairwise(words) if option == "--set"]
    return config_file.load(
        None, {}, {text.partition("=")[0]: config_file.from_text(text.partition("=")[2]) for text in texts}
    )
