"""`restante`: the command line. The commands of a part exist when that part is installed."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import Any

import click

import restante
from restante_cli.groups import Group, Root
from restante_cli.supervisor import hold_leash

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's lines on standard error repeat our errors less clearly
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # Restante never forks without exec
# gRPC's event engine passes each message between threads; its older poller stays on one thread. Measured for a message
# there and back on the Unix socket: 0.43 ms of CPU with the engine, 0.22 without. gRPC ignores names it does not know.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")


class Commands(Group):
    """A group that imports each command at its first use, so that a client command does not load the server."""

    entry_point_group = "restante.commands"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the installed commands."""
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
