"""One request of an Execute stream, and its limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from restante.errors import InvalidArgument
from restante.v1.batch_pb2 import ExecuteOnceRequest, ExecuteRequest, Operation

MAX_BATCH_OPERATIONS = 256
MAX_BATCH_OCTETS = 1 << 20  # of the operations of one request, without the framing around each


@dataclass(eq=False, slots=True)
class Batch:
    """One received request of an Execute stream."""

    request: ExecuteRequest
    octets: int  # of memory, which its operations share: counted until the last of them is answered
    oversize: bool = False  # above MAX_BATCH_OCTETS: its operations are refused, its cancellations take effect
    in_flight: int = 0  # operations
    filled_octets: int = 0  # copied into its operations by references
    reserved_octets: int = 0  # for what references will copy: counted from the arrival, when nothing can wait for room

    @property
    def held_octets(self) -> int:
        """The octets that count for the stream until the last operation is answered."""
        return self.octets + max(self.reserved_octets, self.filled_octets)

    def reserve(self, octets: int) -> None:
        """Reserve octets for a reference; more than a request may have are never copied."""
        self.reserved_octets = min(self.reserved_octets + octets, max(0, MAX_BATCH_OCTETS - self.octets))


def parse(data: bytes) -> Batch:
    """Parse a request. Operations are measured only if they may be too large: measuring costs as much as encoding."""
    request = ExecuteRequest.FromString(data)
    return Batch(request, len(data), len(data) > MAX_BATCH_OCTETS and _is_oversize(request.operations))


def require_sound(request: ExecuteOnceRequest) -> None:
    """Raises InvalidArgument for too many operations, for too large ones, and for an operation_id that occurs twice."""
    if len(request.operations) > MAX_BATCH_OPERATIONS:
        raise too_many()
    if len({operation.operation_id for operation in request.operations}) < len(request.operations):
        raise InvalidArgument(field="operations.operation_id", problem="two operations have the same number")
    if _is_oversize(request.operations):
        raise too_large()


def too_many() -> InvalidArgument:
    """The refusal of a request with more than MAX_BATCH_OPERATIONS."""
    return InvalidArgument(field="operations", problem=f"a request may have at most {MAX_BATCH_OPERATIONS}")


def too_large() -> InvalidArgument:
    """The refusal of operations of more than MAX_BATCH_OCTETS."""
    return InvalidArgument(field="operations", problem=f"together they may have at most {MAX_BATCH_OCTETS} octets")


def _is_oversize(operations: Iterable[Operation]) -> bool:
    return sum(operation.ByteSize() for operation in operations) > MAX_BATCH_OCTETS
