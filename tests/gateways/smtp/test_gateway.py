"""The gateway process: settings, and refused clients."""

from __future__ import annotations

import asyncio

from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.smtp.gateway import REFUSALS, SmtpListener, SmtpSettings, listen
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_process.config import Config, Smtp
from restante_process.config import SmtpListener as Configured
from restante_process.limits import ConnectionLimits
from tests.gateways.smtp.recording import RecordingCore


def test_settings_come_from_the_configuration() -> None:
    config = Config(
        smtp=Smtp(
            listeners={
                "mx": Configured(host="127.0.0.1", port=2025, role="mx"),
                "inside": Configured(host="::1", port=2025, tls="none", role="mx"),
                "submissions": Configured(
                    host="127.0.0.1", port=2465, tls="implicit", proxy_from=("10.0.0.0/8",), role="submission"
                ),
            },
            command_seconds=60.0,
            max_hops=7,
            idle_seconds=61.0,
            data_seconds=62.0,
            data_octets_per_second=63,
            longest_data_seconds=64.0,
        )
    )
    settings = SmtpSettings.from_config(config)
    assert {name: listener.role for name, listener in settings.listeners.items()} == {
        "mx": Role.MX, "inside": Role.MX, "submissions": Role.SUBMISSION,
    }  # fmt: skip
    assert settings.listeners["submissions"].port == Port("127.0.0.1", 2465, "implicit", ("10.0.0.0/8",))
    assert settings.sessions.max_message_octets == config.limits.max_message_octets
    assert settings.sessions.max_recipients == 1000
    assert settings.sessions.max_hops == 7
    assert settings.sessions.command_timeout_seconds == 60.0
    assert settings.sessions.idle_seconds == 61.0
    assert settings.sessions.data_seconds == 62.0
    assert settings.sessions.data_octets_per_second == 63
    assert settings.sessions.max_data_seconds == 64.0


async def test_too_many_connections_are_turned_away_with_421() -> None:
    runtime = Runtime(RuntimeSettings("smtp", limits=ConnectionLimits(connections=1)))
    settings = SmtpSettings(
        {"mx": SmtpListener(Port(tls="none"), Role.MX)}, SessionSettings(Role.MX, "mx.example.test")
    )
    listen(settings, RecordingCore(), runtime)
    port = runtime.addresses()["mx"][0].port
    try:
        first, first_writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await first.readline()).startswith(b"220 ")
        second, second_writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await second.read()).startswith(b"421 4.7.0 ")
        first_writer.close()
        await first_writer.wait_closed()
        second_writer.close()
        await asyncio.sleep(0.05)
        third, third_writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await third.readline()).startswith(b"220 ")
        third_writer.close()
    finally:
        await runtime.drain()


def test_every_refusal_is_a_whole_reply() -> None:
    assert all(line.startswith(b"421 4.7.0 ") and line.endswith(b"\r\n") for line in REFUSALS.values())


def test_a_listener_offers_no_more_recipients_than_the_core_accepts() -> None:
    settings = SessionSettings(Role.MX, "mx.example.test", max_recipients=5_000)
    policy = settings.authentication
    assert settings.of_listener(Role.MX, policy).max_recipients == 1_000  # RFC 9422 4.2
    assert settings.of_listener(Role.SUBMISSION, policy).max_recipients == 5_000
