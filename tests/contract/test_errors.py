"""errors.proto and `restante.errors` agree on every reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2

from restante import errors
from restante.v1.errors_pb2 import ErrorReason

PROTO = Path(__file__).resolve().parents[2] / "protos/restante/v1/errors.proto"
PREFIX = "ERROR_REASON_"
_ENTRY = re.compile(r"((?:^ *//[^\n]*\n)+) *ERROR_REASON_([A-Z_]+) = (\d+);", re.MULTILINE)


class Declared(NamedTuple):
    code: grpc.StatusCode
    keys: tuple[str, ...]
    caused_by_clients: bool


def declared(text: str) -> dict[str, Declared]:
    """{reason: the facts in its comment}, without the unspecified value."""
    found = {}
    for comment, name, number in _ENTRY.findall(text):
        if number == "0":
            continue
        words = " ".join(line.strip().removeprefix("//").strip() for line in comment.strip().splitlines())
        head = re.match(r"([A-Z_]+)(?: \{([a-z_, ]+)\})?\. ", words)
        assert head is not None, f"{name}: the comment must begin with the status code and the metadata keys"
        keys = tuple(key.strip() for key in head[2].split(",")) if head[2] else ()
        found[name] = Declared(grpc.StatusCode[head[1]], keys, words.endswith("Caused by clients."))
    return found


DECLARED = declared(PROTO.read_text())


def test_every_value_has_a_comment_that_can_be_read() -> None:
    names = {name.removeprefix(PREFIX) for name in ErrorReason.keys()}  # noqa: SIM118 - no dictionary
    assert set(DECLARED) == names - {"UNSPECIFIED"}


def test_there_is_one_class_for_each_reason() -> None:
    assert set(errors.BY_REASON) == set(DECLARED)


def test_every_class_is_a_name_of_the_package() -> None:
    assert {cls.__name__ for cls in errors.BY_REASON.values()} <= set(errors.__all__)
    assert all(getattr(errors, name) for name in errors.__all__)


@pytest.mark.parametrize("reason", DECLARED)
def test_a_class_says_what_the_comment_says(reason: str) -> None:
    cls, said = errors.BY_REASON[reason], DECLARED[reason]
    assert cls.code is said.code
    assert cls.keys == said.keys
    assert cls.caused_by_client is said.caused_by_clients
    assert cls.__name__ == reason.title().replace("_", "")


@pytest.mark.parametrize("reason", DECLARED)
def test_an_error_survives_the_wire(reason: str) -> None:
    cls = errors.BY_REASON[reason]
    metadata = {key: f"value of {key}" for key in cls.keys if key != "retry_seconds"}
    sent = cls("In a sentence: ä.", retry_seconds=1.25, **metadata)
    metadata |= {key: "1.25" for key in cls.keys if key == "retry_seconds"}
    status = errors.to_status(sent)
    assert status.code == cls.code.value[0]
    for received in (errors.from_status(status), errors.from_rpc_error(_as_grpc(status))):
        assert type(received) is cls
        assert received.metadata == metadata
        assert received.detail == "In a sentence: ä."
        assert received.retry_seconds == pytest.approx(1.25)


def test_all_bad_fields_survive_the_wire() -> None:
    sent = errors.InvalidAddress(address="alice", problem="has no domain")
    sent.violations = (
        errors.FieldViolation("address", "has no domain"),
        errors.FieldViolation("quota_octets", "must not be negative"),
    )
    status = errors.to_status(sent)
    for received in (errors.from_status(status), errors.from_rpc_error(_as_grpc(status))):
        assert type(received) is errors.InvalidAddress
        assert received.violations == sent.violations
        assert str(received) == (
            "The address is not valid (RFC 5321 4.1.2) (address alice, problem has no domain). "
            "Bad fields: address (has no domain); quota_octets (must not be negative)."
        )


def test_one_bad_field_is_a_violation_too() -> None:
    status = errors.to_status(errors.InvalidArgument(field="mode", problem="not known"))
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert [(each.field, each.description) for each in bad.field_violations] == [("mode", "not known")]
    assert errors.to_status(errors.FolderNotFound(folder_id=7)).details[1:] == []


def test_the_text_names_the_bad_fields_that_the_detail_does_not() -> None:
    invalid = errors.InvalidArgument(field="mode", problem="not known")
    assert str(invalid) == invalid.detail
    weak = errors.WeakPassword("The password is short.")
    weak.violations = (errors.FieldViolation("password", "short"),)
    assert str(weak) == "The password is short. Bad fields: password (short)."


def _as_grpc(status: object) -> grpc.aio.AioRpcError:
    """The status as the error of a failed unary call."""
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))  # type: ignore[attr-defined]
    code = next(each for each in grpc.StatusCode if each.value[0] == status.code)  # type: ignore[attr-defined]
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, status.message)  # type: ignore[attr-defined]


@pytest.mark.parametrize("reason", DECLARED)
def test_an_error_without_words_has_a_sentence(reason: str) -> None:
    cls = errors.BY_REASON[reason]
    error = cls(retry_seconds=3, **{key: "x" for key in cls.keys if key != "retry_seconds"})
    assert error.detail.endswith(".")
    assert all(f"{key} {error.metadata[key]}" in error.detail for key in cls.keys)


def test_metadata_that_is_not_declared_is_refused() -> None:
    with pytest.raises(TypeError):
        errors.FolderNotFound(folder="7")


def test_a_reason_of_a_later_version_is_still_an_error() -> None:
    status = errors.to_status(errors.StoreBusy())
    status.details[0].value = status.details[0].value.replace(b"STORE_BUSY", b"STORE_LAZY")
    received = errors.from_status(status)
    assert isinstance(received, errors.UnknownReason)
    assert received.name == "STORE_LAZY"
    assert received.status_code is grpc.StatusCode.UNAVAILABLE


def test_a_status_from_elsewhere_is_still_an_error() -> None:
    bare = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "no route")
    received = errors.from_rpc_error(bare)
    assert isinstance(received, errors.UnknownReason)
    assert received.status_code is grpc.StatusCode.UNAVAILABLE
    assert received.detail == "no route"
    damaged = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    again = errors.from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.ABORTED, grpc.aio.Metadata(), damaged, "x"))
    assert isinstance(again, errors.UnknownReason)
