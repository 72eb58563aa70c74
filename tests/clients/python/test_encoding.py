"""Messages put together from encoded parts are those that protobuf makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from restante.encoding import tag, varint
from restante.v1.batch_pb2 import ExecuteRequest, Operation
from restante.v1.message_pb2 import AppendMessageRequest


@given(st.integers(0, (1 << 63) - 1))
def test_a_number_is_encoded_as_by_protobuf(number: int) -> None:
    assert b"\x08" + varint(number) == (Operation(operation_id=number).SerializeToString() or b"\x08\x00")


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_encoded_parts_are_the_message(contents: list[bytes]) -> None:
    whole, parts = ExecuteRequest(), b""
    for number, content in enumerate(contents, start=1):
        request = AppendMessageRequest(content=content)
        whole.operations.add(operation_id=number).append_message.CopyFrom(request)
        octets = request.SerializeToString()
        operation = Operation(operation_id=number).SerializeToString()
        operation += tag(Operation.APPEND_MESSAGE_FIELD_NUMBER) + varint(len(octets)) + octets
        parts += tag(ExecuteRequest.OPERATIONS_FIELD_NUMBER) + varint(len(operation)) + operation
    assert ExecuteRequest.FromString(parts) == whole
