"""A request with several bad fields is refused once, with all of them."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from restante.errors import InvalidAddress, InvalidArgument, MessageNotFound, RestanteError, WeakPassword
from restante.methods import Method
from restante.v1 import admin_pb2, directory_pb2, message_pb2, methods, search_pb2, submission_pb2, types_pb2
from restante_server.api.services.violations import collected
from tests.server.api.people import ADMIN, Bench

SECOND_IS_BAD = search_pb2.Restriction(
    all_of=search_pb2.RestrictionList(
        restrictions=[
            search_pb2.Restriction(),
            search_pb2.Restriction(negation=search_pb2.Restriction(text=search_pb2.TextRestriction(value="x"))),
        ]
    )
)

BAD: list[tuple[Method[Any, Any], Any, type[RestanteError], list[str]]] = [
    (
        methods.CREATE_ACCOUNT,
        admin_pb2.CreateAccountRequest(
            address="nowhere", display_name="\0", password="short", quota_octets=-1, request_id=b"0" * 16
        ),
        InvalidAddress,
        ["address", "display_name", "quota_octets", "password"],
    ),
    (
        methods.CREATE_ACCOUNT,
        admin_pb2.CreateAccountRequest(address="dave@example.test", password="short", request_id=b"0" * 16),
        WeakPassword,
        ["password"],
    ),
    (
        methods.UPDATE_ACCOUNT,
        admin_pb2.UpdateAccountRequest(address="bob@example.test", display_name="\0", quota_octets=-1),
        InvalidArgument,
        ["display_name", "quota_octets"],
    ),
    (
        methods.CREATE_ALIAS,
        admin_pb2.CreateAliasRequest(address="nowhere", targets=["bob@example.test", "x"], request_id=b"0" * 16),
        InvalidAddress,
        ["address", "targets"],
    ),
    (
        methods.APPEND_MESSAGE,
        message_pb2.AppendMessageRequest(folder_id=1, flags=99, keywords=["a b"], received_offset_minutes=2_000),
        InvalidArgument,
        ["content", "flags", "keywords", "received_offset_minutes"],
    ),
    (
        methods.QUERY_MESSAGES,
        message_pb2.QueryMessagesRequest(columns=[message_pb2.MESSAGE_COLUMN_UNSPECIFIED], page_size=-1),
        InvalidArgument,
        ["columns", "page_size"],
    ),
    (
        methods.UPDATE_MESSAGES,
        message_pb2.UpdateMessagesRequest(flags=99, keywords=["a b"]),
        InvalidArgument,
        ["messages", "operation", "flags", "keywords"],
    ),
    (
        methods.DELETE_MESSAGES,
        message_pb2.DeleteMessagesRequest(messages=message_pb2.MessageSet(ids=types_pb2.MessageIdSet(message_ids=[0]))),
        InvalidArgument,
        ["messages.ids.message_ids", "mode"],
    ),
    (
        methods.BATCH_GET_MESSAGES,
        message_pb2.BatchGetMessagesRequest(columns=[message_pb2.MESSAGE_COLUMN_UNSPECIFIED]),
        InvalidArgument,
        ["messages", "columns"],
    ),
    (
        methods.BATCH_GET_MESSAGES,
        message_pb2.BatchGetMessagesRequest(
            messages=message_pb2.MessageSet(matching=message_pb2.MatchingMessages(restriction=SECOND_IS_BAD)),
            sections=[message_pb2.Section(), message_pb2.Section(part=[0])],
        ),
        InvalidArgument,
        ["messages.matching.restriction.all_of.restrictions[1].negation.text.field", "sections[1].part"],
    ),
    (
        methods.BATCH_GET_MESSAGES,
        message_pb2.BatchGetMessagesRequest(sections=[message_pb2.Section()] * 33),
        InvalidArgument,
        ["messages", "sections"],
    ),
    (
        methods.SUBMIT_MESSAGE,
        submission_pb2.SubmitMessageRequest(reverse_path="nowhere", request_id=b"0" * 16),
        InvalidArgument,
        ["source", "reverse_path"],
    ),
    (
        methods.RESOLVE_NAMES,
        directory_pb2.ResolveNamesRequest(names=["x" * 1_001], max_candidates=-1),
        InvalidArgument,
        ["names", "max_candidates"],
    ),
]


@pytest.mark.parametrize(("method", "request_", "reason", "fields"), BAD)
async def test_all_bad_fields_are_reported(
    bench: Bench, method: Method[Any, Any], request_: Any, reason: type[RestanteError], fields: list[str]
) -> None:
    caller = ADMIN
    if method.service != "AdminService":
        caller = await bench.caller(await bench.login("bob@example.test", "bob-demo"))
    if method is methods.APPEND_MESSAGE:
        request_.request_id = secrets.token_bytes(16)
    with pytest.raises(RestanteError) as caught:
        await bench.run(method, request_, caller)
    assert type(caught.value) is reason  # the first fault gives the reason
    assert [each.field for each in caught.value.violations] == fields
    assert all(each.problem for each in caught.value.violations)


def _judge() -> None:
    with collected() as bad:
        bad.require(False, "first", "is bad")
        with bad.noting("second"):
            raise MessageNotFound(message_id=7)


def test_an_error_of_another_status_ends_the_checks() -> None:
    with pytest.raises(MessageNotFound):
        _judge()
