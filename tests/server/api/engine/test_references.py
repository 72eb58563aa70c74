"""References: the links between message types that are permitted, and the fields that they copy."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import InvalidArgument
from restante.v1 import content_pb2, folder_pb2, message_pb2, methods, submission_pb2, types_pb2
from restante_server.api.engine.references import MAX_EXPANDED_IDS, fill, link

Run = types_pb2.IdRange
Rows = message_pb2.MessageRows
NUMBERS = st.integers(1, 1 << 62)


def copied(response: Message, source: str, request: Any, target: str) -> Any:
    """The request after one reference."""
    fill(request, link(response.DESCRIPTOR, source, request.DESCRIPTOR, target), response)
    return request


GOOD: list[tuple[Message, str, Message, str, Message]] = [
    (
        folder_pb2.CreateFolderResponse(folder=folder_pb2.Folder(folder_id=7)),
        "folder.folder_id",
        message_pb2.MoveMessagesRequest(target_path=["Kept"]),
        "target_folder_id",
        message_pb2.MoveMessagesRequest(target_path=["Kept"], target_folder_id=7),
    ),
    (
        message_pb2.QueryMessagesResponse(rows=Rows(message_ids=[5, 3])),
        "rows.message_ids",
        message_pb2.UpdateMessagesRequest(),
        "messages.ids.message_ids",
        message_pb2.UpdateMessagesRequest(
            messages=message_pb2.MessageSet(ids=types_pb2.MessageIdSet(message_ids=[5, 3]))
        ),
    ),
    (  # nothing found: a set of no messages, not a missing set
        message_pb2.QueryMessagesResponse(),
        "rows.message_ids",
        message_pb2.UpdateMessagesRequest(),
        "messages.ids.message_ids",
        message_pb2.UpdateMessagesRequest(messages=message_pb2.MessageSet(ids=types_pb2.MessageIdSet())),
    ),
    (  # one value is appended to several
        message_pb2.AppendMessageResponse(message_id=4),
        "message_id",
        message_pb2.RecoverMessagesRequest(message_ids=[1]),
        "message_ids",
        message_pb2.RecoverMessagesRequest(message_ids=[1, 4]),
    ),
    (  # runs become ids
        message_pb2.CopyMessagesResponse(target_message_ids=[Run(first=4, last=6), Run(first=2, last=2)]),
        "target_message_ids",
        message_pb2.RecoverMessagesRequest(),
        "message_ids",
        message_pb2.RecoverMessagesRequest(message_ids=[4, 5, 6, 2]),
    ),
    (  # runs stay runs
        message_pb2.CopyMessagesResponse(target_uids=[Run(first=4, last=6)]),
        "target_uids",
        message_pb2.UpdateMessagesRequest(),
        "messages.uids.ranges",
        message_pb2.UpdateMessagesRequest(
            messages=message_pb2.MessageSet(uids=types_pb2.UidSet(ranges=[Run(first=4, last=6)]))
        ),
    ),
    (  # a message replaces a message
        folder_pb2.CreateFolderResponse(commit=types_pb2.CommitToken(mailbox_id=1, change_number=9)),
        "commit",
        folder_pb2.ListFoldersRequest(min_commit=types_pb2.CommitToken(mailbox_id=1, epoch=4)),
        "min_commit",
        folder_pb2.ListFoldersRequest(min_commit=types_pb2.CommitToken(mailbox_id=1, change_number=9)),
    ),
    (  # an absent message leaves the request as it is
        message_pb2.CopyMessagesResponse(),
        "commit",
        folder_pb2.ListFoldersRequest(),
        "min_commit",
        folder_pb2.ListFoldersRequest(),
    ),
    (  # a field of an absent message is absent
        folder_pb2.CreateFolderResponse(),
        "folder.folder_id",
        folder_pb2.DeleteFolderRequest(folder_id=3),
        "folder_id",
        folder_pb2.DeleteFolderRequest(folder_id=3),
    ),
    (  # through a repeated message: the value of each element
        folder_pb2.ListFoldersResponse(folders=[folder_pb2.Folder(folder_id=1), folder_pb2.Folder(folder_id=2)]),
        "folders.folder_id",
        message_pb2.RecoverMessagesRequest(),
        "message_ids",
        message_pb2.RecoverMessagesRequest(message_ids=[1, 2]),
    ),
    (
        content_pb2.UploadChunkResponse(upload_id=b"u" * 16),
        "upload_id",
        message_pb2.AppendMessageRequest(),
        "upload_id",
        message_pb2.AppendMessageRequest(upload_id=b"u" * 16),
    ),
    (  # another member of a oneof
        message_pb2.AppendMessageResponse(message_id=4),
        "message_id",
        submission_pb2.SubmitMessageRequest(content=b"instead"),
        "message_id",
        submission_pb2.SubmitMessageRequest(message_id=4),
    ),
    (  # an enum
        folder_pb2.GetFolderResponse(folder=folder_pb2.Folder(role=folder_pb2.FOLDER_ROLE_SENT)),
        "folder.role",
        folder_pb2.UpdateFolderRequest(),
        "role",
        folder_pb2.UpdateFolderRequest(role=folder_pb2.FOLDER_ROLE_SENT),
    ),
]


@pytest.mark.parametrize(("response", "source", "request_", "target", "filled"), GOOD)
def test_a_field_is_copied(response: Message, source: str, request_: Message, target: str, filled: Message) -> None:
    assert copied(response, source, request_, target) == filled


GET, LIST, QUERY = folder_pb2.GetFolderResponse, folder_pb2.ListFoldersResponse, message_pb2.QueryMessagesRequest
WANTED = folder_pb2.GetFolderRequest
BAD: list[tuple[type[Any], str, type[Any], str, str]] = [
    (GET, "", WANTED, "folder_id", "response_field"),
    (GET, "folder.", WANTED, "folder_id", "response_field"),
    (GET, "folder.id", WANTED, "folder_id", "response_field"),
    (GET, "folder.folder_id.x", WANTED, "folder_id", "response_field"),
    (GET, "Folder.folder_id", WANTED, "folder_id", "response_field"),
    (LIST, "folders[0].folder_id", WANTED, "folder_id", "response_field"),
    (LIST, "folders.0.folder_id", WANTED, "folder_id", "response_field"),
    (LIST, "folders.folder_id", WANTED, "folder_id", "request_field"),  # several into one
    (GET, "folder.folder_id", WANTED, "no", "request_field"),
    (GET, "folder.folder_id", WANTED, "role", "request_field"),
    (GET, "folder.folder_id", WANTED, "path", "request_field"),
    (GET, "folder", WANTED, "min_commit", "request_field"),  # another message
    (GET, "folder.role", WANTED, "folder_id", "request_field"),
    (GET, "folder.message_count", QUERY, "page_size", "request_field"),  # int64 into int32
    (GET, "folder.folder_id", folder_pb2.GetChangeNumbersRequest, "folders.folder_id", "request_field"),
    (message_pb2.CopyMessagesResponse, "target_uids", WANTED, "folder_id", "request_field"),
    (GET, "folder.display_name", WANTED, "p" * 257, "request_field"),
]


@pytest.mark.parametrize(("response", "source", "request_", "target", "field"), BAD)
def test_a_faulty_path_names_its_side(
    response: type[Any], source: str, request_: type[Any], target: str, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        link(response.DESCRIPTOR, source, request_.DESCRIPTOR, target)
    assert refused.value.metadata["field"] == field
    assert refused.value.metadata["problem"]


def test_no_path_passes_through_a_map() -> None:
    """No message of the contract has one: a message of the library stands in."""
    with pytest.raises(InvalidArgument, match="is a map"):
        link(Struct.DESCRIPTOR, "fields.key", folder_pb2.GetFolderRequest.DESCRIPTOR, "path")


@given(st.lists(st.tuples(NUMBERS, st.integers(-3, 400)), max_size=8))
def test_runs_expand_in_order_and_within_the_limit(pairs: list[tuple[int, int]]) -> None:
    response = message_pb2.CopyMessagesResponse(
        target_message_ids=[Run(first=first, last=first + length - 1) for first, length in pairs]
    )
    request = message_pb2.RecoverMessagesRequest(message_ids=[1])
    expected = [first + number for first, length in pairs for number in range(max(0, length))]
    if len(expected) > MAX_EXPANDED_IDS:
        with pytest.raises(InvalidArgument) as refused:
            copied(response, "target_message_ids", request, "message_ids")
        assert refused.value.metadata["field"] == "request_field"
        assert list(request.message_ids) == [1]
    else:
        assert list(copied(response, "target_message_ids", request, "message_ids").message_ids) == [1, *expected]


def test_a_run_of_all_ids_takes_no_memory() -> None:
    everything = message_pb2.CopyMessagesResponse(target_message_ids=[Run(first=1, last=(1 << 63) - 1)])
    with pytest.raises(InvalidArgument):
        copied(everything, "target_message_ids", message_pb2.RecoverMessagesRequest(), "message_ids")


@given(st.lists(NUMBERS, max_size=50), st.lists(NUMBERS, max_size=50))
def test_several_references_append_in_order(first: list[int], second: list[int]) -> None:
    request = message_pb2.DeleteMessagesRequest()
    for ids in (first, second):
        copied(message_pb2.QueryMessagesResponse(rows=Rows(message_ids=ids)), "rows.message_ids", request, TARGET)
    assert list(request.messages.ids.message_ids) == first + second
    assert request.messages.HasField("ids")


TARGET = "messages.ids.message_ids"
TYPES = [kind for method in methods.ALL for kind in (method.request, method.response)]
NAMES = sorted({name for kind in TYPES for name in kind.DESCRIPTOR.fields_by_name} | {"", "0", "*", "folder_id "})


@given(
    st.sampled_from(methods.ALL),
    st.sampled_from(methods.ALL),
    st.lists(st.sampled_from(NAMES), max_size=4).map(".".join) | st.text(max_size=20),
    st.lists(st.sampled_from(NAMES), max_size=4).map(".".join) | st.text(max_size=20),
)
def test_any_text_is_a_link_or_refused(earlier: Any, later: Any, source: str, target: str) -> None:
    try:
        known = link(earlier.response.DESCRIPTOR, source, later.request.DESCRIPTOR, target)
    except InvalidArgument as error:
        refused = error
    else:
        fill(later.request(), known, earlier.response())
        return
    assert refused.metadata["field"] in ("response_field", "request_field")


def paths(start: Descriptor, depth: int = 3) -> list[str]:
    """Every path of at most `depth` names."""
    found = []
    for field in start.fields:
        found.append(field.name)
        if field.message_type is not None and depth > 1:
            found += [f"{field.name}.{below}" for below in paths(field.message_type, depth - 1)]
    return found


def test_every_link_of_these_types_can_be_filled() -> None:
    """All pairs of paths of an answer and a request: a link is permitted for equal types alone, and then works."""
    answer = message_pb2.MoveMessagesResponse.DESCRIPTOR
    permitted = 0
    for target in paths(message_pb2.CopyMessagesRequest.DESCRIPTOR):
        for source in paths(answer):
            try:
                known = link(answer, source, message_pb2.CopyMessagesRequest.DESCRIPTOR, target)
            except InvalidArgument:
                continue
            permitted += 1
            request = message_pb2.CopyMessagesRequest()
            fill(request, known, message_pb2.MoveMessagesResponse())
            given, wanted = known.source[-1], known.target[-1]
            assert known.expands or (given.type, given.message_type) == (wanted.type, wanted.message_type)
            assert wanted.is_repeated or not any(field.is_repeated for field in known.source)
            assert not any(field.is_repeated for field in known.target[:-1])
    assert permitted > 10
