"""The cores of a configuration, and the report of a move between them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from restante.failover import Move
from restante.target import Target
from restante_gateways.core.cores import show_moves, targets
from restante_process.config import Certificate, Config, ConfigError, Tls


def installed(directory: Path, gateway: str = "imap", secret: str = "s") -> Path:
    (directory / "secrets").mkdir(parents=True)
    (directory / "secrets" / f"{gateway}.secret").write_text(f"{secret}\n")
    return directory


def with_certificate(directory: Path, *addresses: str) -> Config:
    for name in ("ca", "chain", "key"):
        (directory / f"{name}.pem").write_bytes(name.encode())
    pair = Certificate(str(directory / "chain.pem"), str(directory / "key.pem"))
    return Config(data=str(directory), core_addresses=addresses, tls=Tls((pair,), client_ca=str(directory / "ca.pem")))


def test_without_addresses_it_is_the_socket_of_the_data_directory(tmp_path: Path) -> None:
    (target,) = targets(Config(data=str(installed(tmp_path / "data"))), "imap")
    assert target.address == f"unix:{tmp_path}/data/core.sock"
    assert target.metadata == (("restante-identity", "imap"), ("restante-secret", "s"))
    (tmp_path / "data/core.address").write_text("/run/short/core.sock\n")
    (target,) = targets(Config(data=str(tmp_path / "data")), "imap")
    assert target.address == "unix:/run/short/core.sock"


def test_addresses_are_tried_in_their_order_and_each_core_gets_its_own_proof(tmp_path: Path) -> None:
    other = installed(tmp_path / "other", secret="another")
    config = with_certificate(
        installed(tmp_path / "data"), f"unix:{other}/core.sock", "core.example.net:50052", "dns:cores.example.net:50052"
    )
    first, second, third = targets(config, "imap")
    assert first.metadata == (("restante-identity", "imap"), ("restante-secret", "another"))
    assert (second.address, second.root_certificates) == ("core.example.net:50052", b"ca")
    assert (second.certificate_chain, second.private_key) == (b"chain", b"key")
    assert second.metadata == ()  # only sockets get the secret
    assert third.is_name


@pytest.mark.parametrize("address", ["core.example.net", "core.example.net:", "unix:core.sock", "a b:1", ""])
def test_an_address_of_another_form_is_named(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"core_addresses\[1\]"):
        targets(with_certificate(tmp_path, "localhost:50052", address), "imap")


def test_another_machine_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tls\.certificates"):
        targets(Config(data=str(tmp_path), core_addresses=("localhost:50052",)), "imap")


def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="start the core first"):
        targets(Config(data=str(tmp_path)), "imap")


def test_metrics_say_which_core_is_used_and_count_the_moves() -> None:
    listeners: list[Callable[[Move], None]] = []
    link: Any = SimpleNamespace(target=Target("a:1"), on_move=listeners.append)
    registry = CollectorRegistry()
    show_moves(link, "imap", registry)

    def used(core: str) -> float | None:
        return registry.get_sample_value("restante_gateway_core", {"gateway": "imap", "core": core})

    def moves() -> float | None:
        return registry.get_sample_value("restante_gateway_core_moves_total", {"gateway": "imap"})

    assert (used("a:1"), used("b:1"), moves()) == (1, None, 0)
    listeners[0](Move("a:1", "b:1", "cannot be reached"))
    assert (used("a:1"), used("b:1"), moves()) == (None, 1, 1)
