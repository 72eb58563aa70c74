"""An update that names its object alone changes nothing, whatever the object's settings are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from restante.errors import ChangeConflict
from restante.v1 import admin_pb2, folder_pb2, methods
from tests.server.api.served import DOMAIN, Served, served

BOB = f"bob@{DOMAIN}"
UPDATES = [method for method in methods.ALL if method.name.startswith("Update") and method != methods.UPDATE_MESSAGES]
"""UpdateMessages has a required operation instead of settings that may be absent."""


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as running:
        yield running


async def _domain(core: Served) -> tuple[Message, Message, Message]:
    """(a changed domain, an update that names it alone, the domain after that update)."""
    settings = admin_pb2.UpdateDomainRequest(
        name=DOMAIN, catch_all=BOB, resending=admin_pb2.ResendingPolicy.RESENDING_POLICY_ANYWHERE
    )
    before = await core.call("AdminService/UpdateDomain", settings, identity="admin")
    bare = admin_pb2.UpdateDomainRequest(name=DOMAIN)
    after = await core.call("AdminService/UpdateDomain", bare, identity="admin")
    return before.domain, bare, after.domain


async def _account(core: Served) -> tuple[Message, Message, Message]:
    settings = admin_pb2.UpdateAccountRequest(
        address=BOB,
        display_name="Bob",
        enabled=False,
        administrator=True,
        sent_copy=admin_pb2.SentCopyPolicy.SENT_COPY_POLICY_NEVER,
        quota_octets=1_000_000,
    )
    before = await core.call("AdminService/UpdateAccount", settings, identity="admin")
    bare = admin_pb2.UpdateAccountRequest(address=BOB)
    after = await core.call("AdminService/UpdateAccount", bare, identity="admin")
    return before.account, bare, after.account


async def _folder(core: Served) -> tuple[Message, Message, Message]:
    token = (await core.session("bob")).session_token
    wanted = folder_pb2.GetFolderRequest(role=folder_pb2.FolderRole.FOLDER_ROLE_ARCHIVE)
    before = (await core.call("FolderService/GetFolder", wanted, token=token)).folder
    bare = folder_pb2.UpdateFolderRequest(folder_id=before.folder_id)
    after = (await core.call("FolderService/UpdateFolder", bare, token=token)).folder
    old = folder_pb2.UpdateFolderRequest(folder_id=before.folder_id, if_change_number=before.change_number - 1)
    with pytest.raises(ChangeConflict):  # the condition holds for an update without settings, too
        await core.call("FolderService/UpdateFolder", old, token=token)
    none = folder_pb2.FolderRole.FOLDER_ROLE_UNSPECIFIED
    ordinary = folder_pb2.UpdateFolderRequest(folder_id=before.folder_id, role=none)
    assert (await core.call("FolderService/UpdateFolder", ordinary, token=token)).folder.role == none
    return before, bare, after


TRIES: dict[str, Any] = {"UpdateDomain": _domain, "UpdateAccount": _account, "UpdateFolder": _folder}


@pytest.mark.parametrize("method", UPDATES, ids=lambda method: method.name)
async def test_an_update_of_nothing_changes_nothing(core: Served, method: Any) -> None:
    before, bare, after = await TRIES[method.name](core)
    assert isinstance(bare, method.request)
    assert after == before
