"""`restante`: one command line for everything. Parts that are not installed have no commands."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import Any

import click

import restante
from restante_cli.groups import Group, Root
from restante_cli.supervisor import hold_leash

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines on standard error say what our errors say better
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # nothing of ours forks without starting a program
# gRPC's event engine hands each message from thread to thread, where its older poller stays on one. Measured, a message
# there and back on the Unix socket: 0.43 ms of CPU with the engine, 0.22 without. What it does not know it passes over.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")


class Commands(Group):
    """Commands are imported when they are asked for: a client need not load the server."""

    entry_point_group = "restante.commands"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of what is installed."""
        return sorted(
            {point.name for point in entry_points(group=self.entry_point_group)} | set(super().list_commands(ctx))
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        for point in entry_points(group=self.entry_point_group, name=cmd_name):
            command: Any = point.load()
            assert isinstance(command, click.Command)
            return command
        return super().get_command(ctx, cmd_name)


class _Main(Root, Commands):
    pass


@click.command(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(restante.__version__, prog_name="restante")
def main() -> None:
    """Restante, a mail platform: server, gateways and client."""
    hold_leash()


if __name__ == "__main__":
    main()
