"""Every call names its mailbox and has the session's token."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from google.protobuf.message import Message as Protobuf

from restante.execute import Followed
from restante.v1 import folder_pb2, message_pb2
from restante.v1.batch_pb2 import OperationResult
from restante_gateways.imap.core.folders import FolderCalls
from restante_gateways.imap.core.messages import MessageCalls
from restante_gateways.imap.core.operations import Operations
from restante_gateways.imap.grammar.fetch import FetchFact, FetchSection, Section
from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.search_keys import SearchUids
from restante_gateways.imap.values import FlagOperation, FolderPath, Messages, NewMessage, Place, RemovedMessages

MAILBOX = 77
PLACE, PATH = Place(MAILBOX, 5), FolderPath(MAILBOX, ("a", "b"))
SOME = Messages(PLACE, [(3, 9)])
SEEN = Flags()


class Session:
    """A session of another mailbox's owner."""

    mailbox_id, token, client_address = 1, b"token", "192.0.2.1"


class Link:
    """A core that answers every call with an empty response."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.followed: list[Followed | None] = []

    async def execute(
        self, method: Any, request: Protobuf, *, session: bytes, client_address: str, followed: Any, timeout: float
    ) -> Any:
        assert (session, client_address) == (b"token", "192.0.2.1")
        self.requests.append(request)
        self.followed.append(followed)
        return getattr(OperationResult(), method.field)

    async def open_folder(self, request: Any, *, session: bytes, client_address: str) -> AsyncIterator[Any]:
        assert (session, client_address) == (b"token", "192.0.2.1")
        self.requests.append(request)
        yield folder_pb2.OpenFolderResponse(folder=folder_pb2.Folder(folder_id=5))

    async def stream_messages(self, request: Any, *, session: bytes, client_address: str) -> AsyncIterator[Any]:
        assert (session, client_address) == (b"token", "192.0.2.1")
        self.requests.append(request)
        yield message_pb2.StreamMessagesResponse(rest=message_pb2.SectionRest(section_index=1, octets=b"x"))


async def rows(calls: MessageCalls, messages: Messages | RemovedMessages, count: int) -> None:
    async for _ in calls.rows(messages, count, [FetchFact.SIZE], [FetchSection(Section())]):
        pass


FOLDER_CALLS: dict[str, Callable[[FolderCalls], Coroutine[Any, Any, Any]]] = {
    "get": lambda calls: calls.get(PATH),
    "all": lambda calls: calls.all(MAILBOX),
    "create": lambda calls: calls.create(PATH),
    "delete": lambda calls: calls.delete(PLACE),
    "move": lambda calls: calls.move(PLACE, ["c"]),
    "subscriptions": lambda calls: calls.subscriptions(MAILBOX),
    "subscribe": lambda calls: calls.subscribe(PATH, True),
    "usage": lambda calls: calls.usage(MAILBOX),
    "epoch": lambda calls: calls.epoch(MAILBOX),
    "snapshot": lambda calls: calls.snapshot(PLACE),
    "changes": lambda calls: calls.changes(PLACE, 1, 1),
    "claim_recent": lambda calls: calls.claim_recent(PLACE),
}
MESSAGE_CALLS: dict[str, Callable[[MessageCalls], Coroutine[Any, Any, Any]]] = {
    "rows": lambda calls: rows(calls, SOME, 1),
    "few_rows": lambda calls: calls.few_rows(SOME, [FetchFact.SIZE], [FetchSection(Section())]),
    "rows of many": lambda calls: rows(calls, SOME, 1_000),
    "rows of removed messages": lambda calls: rows(calls, RemovedMessages(MAILBOX, [4]), 1),
    "search": lambda calls: calls.search(PLACE, [SearchUids(((1, 2),))]),
    "append": lambda calls: calls.append(PATH, NewMessage(SEEN, None), b"x"),
    "append by id": lambda calls: calls.append(PLACE, NewMessage(SEEN, None), b"x"),
    "store": lambda calls: calls.store(SOME, FlagOperation.ADD, SEEN, changes_since=None),
    "copy": lambda calls: calls.copy(SOME, PATH, count=None),
    "move": lambda calls: calls.move(SOME, PLACE, count=None),
    "delete_marked": lambda calls: calls.delete_marked(SOME, changes_since=None),
}


def calls_of(class_: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(class_, inspect.isfunction) if not name.startswith("_")}


def test_all_calls_are_listed_here() -> None:
    assert calls_of(FolderCalls) == set(FOLDER_CALLS)
    assert calls_of(MessageCalls) - {"upload"} == {name.split(" ")[0] for name in MESSAGE_CALLS}


@pytest.mark.parametrize("name", FOLDER_CALLS)
async def test_a_call_about_folders_names_the_mailbox(name: str) -> None:
    link = Link()
    await FOLDER_CALLS[name](FolderCalls(Operations(link, Session())))  # type: ignore[arg-type]
    assert [request.mailbox_id for request in link.requests] == [MAILBOX]


@pytest.mark.parametrize("name", MESSAGE_CALLS)
async def test_a_call_about_messages_names_the_mailbox(name: str) -> None:
    link = Link()
    await MESSAGE_CALLS[name](MessageCalls(Operations(link, Session())))  # type: ignore[arg-type]
    assert [request.mailbox_id for request in link.requests] == [MAILBOX]


async def test_a_response_with_changes_does_not_raise_the_followed_number() -> None:
    link = Link()
    operations = Operations(link, Session())  # type: ignore[arg-type]
    operations.follow(PLACE)
    calls = MessageCalls(operations)
    await calls.store(SOME, FlagOperation.ADD, SEEN, changes_since=9)
    await calls.store(SOME, FlagOperation.ADD, SEEN, changes_since=None)
    told = link.followed[1]
    assert link.followed[0] is None
    assert told is not None and (told.mailbox_id, told.folder_id) == (MAILBOX, 5)


async def test_a_copy_to_another_mailbox_is_never_sent_as_one_within_a_mailbox() -> None:
    link = Link()
    calls = MessageCalls(Operations(link, Session()))  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        await calls.copy(SOME, Place(78, 5), count=None)
    assert not link.requests
