"""Sessions that a command begins for itself end with the command."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click
import pytest

from restante.client import Client
from restante.errors import SessionRevoked
from restante_cli.one_command import for_one_command
from tests.harness.local_core import LocalCore, address, open_local_core, password, prepare_store


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("template") / "data"
    prepare_store(directory)
    return directory


async def interrupted(client: Client, end: BaseException, core: LocalCore | None = None) -> None:
    """A command that fails, with a core that stops before that."""
    async with for_one_command(client):
        if core is not None:
            await core.stop()
        raise end


@pytest.mark.parametrize("end", [click.ClickException("no folder"), asyncio.CancelledError()])
async def test_the_session_of_a_command_that_fails_ends_with_it(
    template: Path, tmp_path: Path, end: BaseException
) -> None:
    async with open_local_core(template, tmp_path / "core") as core:
        async with Client.connect(core.target(), user=address("alice"), password=password("alice")) as client:
            token = client.session.token
            with pytest.raises(type(end)):
                await interrupted(client, end)
        with pytest.raises(SessionRevoked):
            await Client.connect(core.target(), token=token).__aenter__()


async def test_a_core_that_is_away_does_not_hide_the_failure_of_the_command(template: Path, tmp_path: Path) -> None:
    async with (
        open_local_core(template, tmp_path / "core") as core,
        Client.connect(core.target(), user=address("alice"), password=password("alice")) as client,
    ):
        began = time.monotonic()
        with pytest.raises(click.ClickException):
            await interrupted(client, click.ClickException("the core is away"), core)
        assert time.monotonic() - began < 10
