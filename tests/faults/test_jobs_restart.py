"""A core is killed right after it has begun jobs: the next start ends them, under the eyes of the same client."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from restante import errors
from restante.calls import Calls
from restante.jobs import Jobs
from restante.v1 import methods
from restante.v1.admin_pb2 import GetAccountRequest
from restante.v1.job_pb2 import JobState
from tests.harness.core_process import running_core
from tests.harness.postgres import PostgresServer

pytestmark = [pytest.mark.faults, pytest.mark.slow]

ADDRESS = "alice@example.test"
SECONDS = 60.0  # on PostgreSQL a lease of the dead core has to expire first


def test_jobs_survive_their_core_on_sqlite(tmp_path: Path) -> None:
    _killed_and_restarted(tmp_path)


@pytest.mark.postgres
def test_jobs_survive_their_core_on_postgresql(tmp_path: Path, postgres: PostgresServer) -> None:
    with postgres.database() as url:
        _killed_and_restarted(tmp_path, RESTANTE_STORE__URL=url)


def _killed_and_restarted(tmp_path: Path, **environment: str) -> None:
    backup = tmp_path / "backup"
    with running_core(tmp_path / "data", **environment) as core:

        async def run() -> None:
            await core.account(ADDRESS, secrets.token_hex(8))
            link = await core.link("admin")
            jobs = Jobs(Calls(link, timeout_seconds=SECONDS))
            begun = [
                await jobs.back_up_store(str(backup)),
                await jobs.check_store(digests=True),
                await jobs.delete_account(ADDRESS),
            ]
            watching = [asyncio.create_task(jobs.wait(job.job_id)) for job in begun]
            await asyncio.to_thread(core.restart)
            try:
                async with asyncio.timeout(SECONDS):
                    ended = await asyncio.gather(*watching)
                assert [job.state for job in ended] == [JobState.JOB_STATE_SUCCEEDED] * 3
                with pytest.raises(errors.AccountNotFound):
                    await Calls(link).execute(methods.GET_ACCOUNT, GetAccountRequest(address=ADDRESS))
                after = await jobs.wait((await jobs.check_store(digests=True)).job_id)
                assert after.finding_count == 0
            finally:
                await link.close()

        asyncio.run(run())
    assert (backup / "manifest.json").exists() and not (backup / "incomplete").exists()
