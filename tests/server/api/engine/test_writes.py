"""Writes of two mailboxes: the scope of their request ids, and the rights that a repetition needs."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from restante.errors import MailboxNotFound
from restante.v1.admin_pb2 import CreateAccountRequest
from restante.v1.message_pb2 import CopyMessagesRequest, CopyMessagesResponse
from restante_server.api.engine.writes import HandlerWrite, fingerprint, once_of
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import rights
from restante_server.directory.rights import Claim
from restante_server.opening import create_store
from restante_server.store import mailboxes

NOW = 1_700_000_000_000_000  # microseconds
REQUEST = CopyMessagesRequest(request_id=b"0123456789abcdef")


def test_the_mailbox_of_the_messages_is_the_scope_of_a_request_id() -> None:
    assert once_of(REQUEST, "alice", (Claim(1, 7), Claim(1, 3)), NOW).key.mailbox_id == 7
    assert once_of(REQUEST, "alice", (), NOW).key.mailbox_id == 0


def test_a_fingerprint_holds_the_request_and_its_references_but_no_secret() -> None:
    path = ("query_messages", "rows.message_ids", "messages.ids.message_ids")
    assert len({fingerprint(REQUEST), fingerprint(REQUEST, [path]), fingerprint(REQUEST, [path, path])}) == 3
    assert fingerprint(REQUEST, [path]) != fingerprint(REQUEST, [("search_messages", *path[1:])])
    account = CreateAccountRequest(address="a@example.test", password="one")
    assert fingerprint(account) == fingerprint(CreateAccountRequest(address="a@example.test", password_hash="two"))
    assert fingerprint(account) != fingerprint(CreateAccountRequest(address="b@example.test"))
    assert account.password == "one"


async def test_a_repetition_needs_the_right_in_both_mailboxes(database: Database) -> None:
    def make(tx: Connection) -> list[int]:
        create_store(tx, NOW)
        return [mailboxes.create(tx, NOW, account_id=1) for _ in range(2)]

    target, source = await database.write(Write(make))
    runs: list[int] = []

    def copy(_tx: Connection) -> CopyMessagesResponse:
        runs.append(len(runs))
        return CopyMessagesResponse(target_folder_id=100 + len(runs))

    def write() -> HandlerWrite[CopyMessagesResponse]:
        return HandlerWrite("alice", NOW, REQUEST, copy, (Claim(1, source), Claim(1, target)))

    first = await database.write(write())
    assert await database.write(write()) == first
    for lost in (target, source):
        await database.write(Write(lambda tx, lost=lost: mailboxes.assign(tx, rights.system(lost), 2)))  # type: ignore[misc]
        with pytest.raises(MailboxNotFound) as refused:
            await database.write(write())
        assert refused.value.metadata == {"mailbox_id": str(lost)}
        await database.write(Write(lambda tx, lost=lost: mailboxes.assign(tx, rights.system(lost), 1)))  # type: ignore[misc]
    assert await database.write(write()) == first
    assert runs == [0]
