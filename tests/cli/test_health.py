"""The metrics of several processes as one text."""

from __future__ import annotations

import json
import logging

import pytest
import structlog
from prometheus_client import Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from restante_cli.health import merged, ready, served
from restante_cli.supervisor import Supervisor
from restante_cli.up import reporter
from restante_process import config, logs
from restante_process.metrics import new_registry
from tests.harness.organisation import free_ports


def test_lines_about_children_have_the_form_of_their_logs(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        reporter(config.Logging(format="json"))("imap ended with status 1")
        line = json.loads(capsys.readouterr().err)
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in logs.OURS:
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert (line["process"], line["level"], line["event"]) == ("up", "warning", "imap ended with status 1")
    reporter(config.Logging(format="console"))("imap ended with status 1")
    assert capsys.readouterr().err == "imap ended with status 1\n"


async def test_it_is_ready_once_the_start_is_complete() -> None:
    [port] = free_ports(1)
    settings = config.Config(health=config.Health(up=port, core=-1, imap=-1, pop3=-1, smtp=-1, relay=-1))
    supervisor = Supervisor(print, drain_seconds=1)
    async with served(settings, {}, supervisor):
        assert not await ready("127.0.0.1", port), "a child that ends now ends them all"
        supervisor.complete = True
        assert await ready("127.0.0.1", port)


def test_every_sample_names_its_process_and_every_family_stands_once() -> None:
    texts = {}
    for process in ("imap", "smtp"):
        registry = new_registry(process)
        Counter("restante_things", "Things.", ["kind"], registry=registry).labels('a"b').inc()
        Histogram("restante_wait_seconds", "Waits.", buckets=(1.0,), registry=registry).observe(0.5)
        texts[process] = generate_latest(registry).decode()
    text = merged({**texts, "pop3": ""}, {"imap": 2, "pop3": 0}).decode()
    families = [family.name for family in text_string_to_metric_families(text)]
    assert len(families) == len(set(families))
    for line in (
        'restante_process_up{process="imap"} 1.0',
        'restante_process_up{process="pop3"} 0.0',
        'restante_process_restarts_total{process="imap"} 2.0',
        'restante_things_total{kind="a\\"b",process="smtp"} 1.0',
        'restante_wait_seconds_bucket{le="1.0",process="imap"} 1.0',
    ):
        assert line in text.splitlines()
    assert 'process_start_time_seconds{process="smtp"}' in text
    assert "_created" not in text
