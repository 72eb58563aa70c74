"""The section [checks] of the configuration."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from restante_gateways.smtp.checks.client import DnsList
from restante_gateways.smtp.checks.metrics import CheckMetrics
from restante_gateways.smtp.checks.service import Checker
from restante_gateways.smtp.checks.settings import CheckSettings
from restante_gateways.smtp.gateway import SmtpSettings
from restante_process.config_file import load


def settings(**checks: Any) -> CheckSettings:
    flags = {f"checks.{name}": value for name, value in checks.items()}
    made = SmtpSettings.from_config(
        load(None, environment={}, flags=flags | {"transport.hostname": "mx.example"})
    ).checks
    assert made is not None
    return made


def test_all_checks_are_on_and_private_clients_exempt() -> None:
    made = settings()
    assert (made.host_name, made.spf, made.dkim, made.arc, made.dmarc, made.reverse_dns) == ("mx.example", *[True] * 5)
    assert made.any
    checker = Checker(made, CheckMetrics(CollectorRegistry()))
    for address in (
        "",
        "127.0.0.1",
        "::1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "fd00::1",
        "fe80::1",
    ):
        assert checker.connected(address, lambda: pytest.fail("nothing asks for the time")) is None


def test_lists_have_zones_and_weights() -> None:
    lists = [{"zone": "BL.example."}, {"zone": "wl.example", "weight": -2}]
    assert settings(dns_lists=lists).dns_lists == (DnsList("bl.example", 1.0), DnsList("wl.example", -2.0))


def test_everything_can_be_off() -> None:
    names = ("spf", "dkim", "arc", "dmarc", "reverse_dns")
    assert not settings(**dict.fromkeys(names, False)).any
    assert not settings(arc=False, dkim=False, dmarc=False).of_content


@pytest.mark.parametrize(
    ("checks", "problem"),
    [
        ({"seconds": 0}, r"checks\.seconds: 0\.0 is not above 0"),
        ({"exempt": ["10.0.0.1/8"]}, r"checks\.exempt: 10\.0\.0\.1/8 has host bits set"),
        ({"dns_lists": [{"zone": ""}]}, r"checks\.dns_lists: '' is not a zone in the DNS"),
        ({"dns_lists": [{"zone": "a", "weight": 1e9}]}, r"checks\.dns_lists: the weight of a is not between"),
        ({"dns_lists": [{"zone": "a"}] * 51}, r"checks\.dns_lists: more than 50 lists"),
        ({"spf": False}, r"checks\.dmarc needs checks\.spf and checks\.dkim"),
        (
            {"nameservers": ["dns.example"]},
            r"checks\.nameservers: 'dns\.example' does not appear to be an IPv4 or IPv6",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_key(checks: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Checker(settings(**checks), CheckMetrics(CollectorRegistry()))
