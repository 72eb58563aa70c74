"""`restante admin forwarding` over a core of this process."""

from __future__ import annotations

import asyncio
from pathlib import Path

from click.testing import CliRunner

from restante_cli.admin import admin
from tests.harness.local_core import open_local_core, prepare_store


async def test_the_secret_is_replaced_and_earlier_ones_are_revoked(tmp_path: Path) -> None:
    await asyncio.to_thread(prepare_store, tmp_path / "template")
    async with open_local_core(tmp_path / "template", tmp_path / "data") as core:

        async def replace(*options: str) -> str:
            arguments = ["--data", str(core.directory), "forwarding", "replace-secret", *options]
            done = await asyncio.to_thread(CliRunner().invoke, admin, arguments)
            assert done.exit_code == 0, done.stderr
            return done.stdout

        assert "no earlier one proves any" in await replace()
        assert "earlier ones that still prove some: 1" in await replace()
        assert "no earlier one proves any" in await replace("--revoke-earlier")
