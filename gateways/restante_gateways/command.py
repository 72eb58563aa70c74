"""`restante gateway NAME`: one gateway process from the configuration."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import click
import uvloop

from restante.link import CoreLink
from restante_gateways.core.cores import frames, show_moves, targets
from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.runtime import Runtime, RuntimeSettings
from restante_process import logs
from restante_process.config import Config, ConfigError
from restante_process.limits import ConnectionLimits
from restante_process.options import configured, reading
from restante_process.reload import Reload
from restante_process.tls import CertificateError, CertificateFiles

Run = Callable[[Config, CoreLink, Runtime], Awaitable[None]]


async def _imap(config: Config, core: CoreLink, runtime: Runtime) -> None:
    from restante_gateways.imap import gateway

    await gateway.run(gateway.ImapSettings.from_config(config), core, runtime)


async def _pop3(config: Config, core: CoreLink, runtime: Runtime) -> None:
    from restante_gateways.pop3 import gateway

    await gateway.run(gateway.Pop3Settings.from_config(config), core, runtime)


async def _smtp(config: Config, core: CoreLink, runtime: Runtime) -> None:
    from restante_gateways.smtp import gateway

    await gateway.run(gateway.SmtpSettings.from_config(config), core, runtime)


async def _relay(config: Config, core: CoreLink, runtime: Runtime) -> None:
    from restante_gateways.relay import gateway

    await gateway.run(gateway.RelaySettings.from_config(config), core, runtime)


GATEWAYS: dict[str, Run] = {"imap": _imap, "pop3": _pop3, "smtp": _smtp, "relay": _relay}


def runtime_settings(config: Config, name: str) -> RuntimeSettings:
    """The runtime settings of a gateway process, from the configuration."""
    port: int = getattr(config.health, name)
    return RuntimeSettings(
        gateway=name,
        certificates=certificate_files(config),
        authentication=AuthenticationPolicy(config.tls.authentication),
        limits=ConnectionLimits(
            connections=config.limits.connections, connections_per_address=config.limits.connections_per_address
        ),
        reuse_port=config.limits.reuse_port,
        metrics_host=config.health.host,
        metrics_port=port if port >= 0 else None,
        log_format=config.logging.format,
        log_level=config.logging.level,
        drain_seconds=config.core.drain_seconds,
    )


def certificate_files(config: Config) -> tuple[CertificateFiles, ...]:
    """The certificates of the configuration, each for its hosts."""
    return tuple(
        CertificateFiles(Path(pair.certificate), Path(pair.key), pair.hosts) for pair in config.tls.certificates
    )


async def serve(config: Config, name: str, read: Callable[[], Config]) -> None:
    """Run one gateway until a signal or `Runtime.end` ends it. Raises ConfigError, CertificateError, OSError."""
    other = frames(config)
    core = await CoreLink.connect(
        targets(config, name), open_carrier=other, open_server_stream=other.call if other is not None else None
    )
    try:
        async with Runtime.open(runtime_settings(config, name)) as runtime:
            show_moves(core, name, runtime.metrics.registry)

            def use(new: Config) -> None:
                logs.configure(name, form=new.logging.format, level=new.logging.level)
                runtime.reload(certificate_files(new))

            hung_up = Reload(config, read, use, runtime.end)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up)
            watching = asyncio.create_task(runtime.readiness.keep("core", core.why_not_serving), name="core readiness")
            try:
                await GATEWAYS[name](config, core, runtime)
            finally:
                watching.cancel()
    finally:
        await core.close()


SWITCH_SECONDS = 0.001  # Python's lock: the event loop waits at most so long for a thread that computes


@click.command("gateway")
@click.argument("name", type=click.Choice(sorted(GATEWAYS)))
@configured
def gateway(config: Config, name: str) -> None:
    """Run one gateway: imap, pop3, smtp or relay."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the reload handler is installed
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, name, reading()))
    except (ConfigError, CertificateError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
