"""The allowed directories of a backup in an administrator's session: below one root, also through symbolic links."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from restante import errors
from restante.v1.admin_pb2 import BackupStoreRequest
from restante.v1.job_pb2 import JobState, WatchJobRequest
from tests.server.api.served import Served, request_id, served, token_metadata

together = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(Path(tmp_path_factory.mktemp("backups"))) as made:
        root = made.directory / "backups"
        root.mkdir()
        outside = made.directory.parent / "outside"
        outside.mkdir()
        (root / "way-out").symlink_to(outside)
        (root / "way-back").symlink_to(root)
        (root / "round").symlink_to(root / "round")
        yield made


async def backup(core: Served, directory: str, metadata: Any) -> bool:
    """Make a backup and return whether it succeeded. Raises the class of its reason."""
    request = BackupStoreRequest(directory=directory, request_id=request_id())
    try:
        job = (await core.stub("AdminService/BackupStore")(request, metadata=metadata, timeout=30)).job
        call = core.stub("JobService/WatchJob")(WatchJobRequest(job_id=job.job_id), metadata=metadata, timeout=30)
        steps = [step async for step in call]
    except grpc.aio.AioRpcError as error:
        raise errors.from_rpc_error(error) from None
    return bool(steps[-1].job.state == JobState.JOB_STATE_SUCCEEDED)


@together
@pytest.mark.parametrize(
    ("directory", "problem"),
    [
        ("backups", "below"),  # the root itself
        ("backups/", "below"),
        ("", "below"),
        ("backups-more/a", "below"),
        ("../outside/a", ".."),
        ("backups/../../outside/a", ".."),
        ("backups/a/../../backups/b", ".."),
        ("backups/way-out", "below"),
        ("backups/way-out/a", "below"),
        ("backups/round/a", "resolved"),
    ],
)
async def test_a_session_gets_no_backup_elsewhere(core: Served, directory: str, problem: str) -> None:
    session = await core.session("alice")
    before = sorted(core.directory.parent.rglob("*"))
    with pytest.raises(errors.InvalidArgument) as refused:
        await backup(core, f"{core.directory}/{directory}", token_metadata(session.session_token))
    assert (refused.value.metadata["field"], problem in refused.value.metadata["problem"]) == ("directory", True)
    made = {path for path in core.directory.parent.rglob("*") if path not in before}
    assert not [path for path in made if "-wal" not in path.name and "-shm" not in path.name]


@together
@pytest.mark.parametrize("directory", ["relative/a", "a\0b", "~/a"])
async def test_no_path_but_an_absolute_one_is_taken(core: Served, directory: str) -> None:
    session = await core.session("alice")
    with pytest.raises(errors.InvalidArgument):
        await backup(core, directory, token_metadata(session.session_token))


@together
@pytest.mark.parametrize("directory", ["first", "deep/er", "way-back/second"])
async def test_a_session_gets_its_backup_below_the_root(core: Served, directory: str) -> None:
    session = await core.session("alice")
    target = core.directory / "backups" / directory
    target.parent.mkdir(exist_ok=True)
    assert await backup(core, str(target), token_metadata(session.session_token))
    assert any(target.iterdir())


@together
async def test_the_tool_of_this_machine_writes_where_its_user_wants(core: Served, tmp_path: Path) -> None:
    assert await backup(core, str(tmp_path / "anywhere"), core.identity("admin"))
