"""The expiry of certificates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from restante_process.certificates import Expiry, expiry
from restante_process.metrics import CertificateMetrics
from tests.harness.certificates import pair_maker

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "said"),
    [(90.0, ""), (14.5, ""), (13.5, "expires on 2026-03-15 00:00 UTC, in 13.5 days"), (-1.0, "expired on 2026-02-28")],
)
def test_the_operator_is_warned_below_14_days_and_afterwards(days: float, said: str) -> None:
    warning = Expiry("mx.example.test", NOW + timedelta(days=days)).warning(NOW)
    assert said in warning if said else warning == ""
    assert not said or "mx.example.test" in warning


def test_the_first_name_and_the_end_are_read_from_the_file(tmp_path: Path) -> None:
    pair = pair_maker(tmp_path)("server", "mx.example.test", "mail.example.test", days=10)
    found = expiry(pair.certificate)
    assert found.name == "mx.example.test"
    assert found.days_left(datetime.now(UTC)) == pytest.approx(10, abs=0.1)
    with pytest.raises(ValueError, match="PEM"):
        expiry(pair.key)


def test_the_metric_shows_those_in_use_alone() -> None:
    registry = CollectorRegistry()
    metrics = CertificateMetrics(registry)
    name = "restante_certificate_expiry_timestamp_seconds"
    metrics.show([Expiry("old.example.test", NOW)])
    metrics.show([Expiry("new.example.test", NOW)])
    assert registry.get_sample_value(name, {"name": "new.example.test"}) == NOW.timestamp()
    assert registry.get_sample_value(name, {"name": "old.example.test"}) is None
