"""Batches: operations in one request, each of which may take fields from the responses of those before it.

batch = me.batch()
made = batch.add(methods.CREATE_FOLDER, CreateFolderRequest(path=["2026"]))
moved = batch.add(methods.MOVE_MESSAGES, request, {"target_folder_id": made["folder.folder_id"]})
await batch.run()
print(moved.response.target_folder_id)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic

from restante import errors
from restante.calls import Calls, may_pass
from restante.methods import Method, Request, Response
from restante.retry import is_repeatable
from restante.v1.batch_pb2 import Operation, OperationResult

__all__ = ["Batch", "Field", "Pending"]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the response that an operation will have."""

    pending: Pending[Any]
    path: str  # field names with dots between them, such as "rows.message_ids"


NO_FIELDS: Mapping[str, Field] = MappingProxyType({})


class Pending(Generic[Response]):
    """An operation of a batch. `pending["folder.folder_id"]` is a field that operations behind it may take."""

    def __init__(self, method: Method[Any, Response], operation_id: int) -> None:
        self.method, self.operation_id = method, operation_id
        self.error: errors.RestanteError | None = None  # the failure, after `Batch.run`
        self._response: Response | None = None

    def __getitem__(self, path: str) -> Field:
        return Field(self, path)

    @property
    def response(self) -> Response:
        """The response. Raises the operation's error, and RuntimeError before `Batch.run`."""
        if self.error is not None:
            raise self.error
        if self._response is None:
            raise RuntimeError("the batch has not run yet")
        return self._response

    def settle(self, result: OperationResult) -> None:
        """Take the operation's result."""
        if result.HasField("status"):
            self.fail(errors.from_status(result.status))
        else:
            self.error, self._response = None, getattr(result, self.method.field)

    def fail(self, error: errors.RestanteError) -> None:
        """Take the operation's failure."""
        self.error, self._response = error, None


class Batch:
    """Operations of one session, for one request. `run` sends them and gives each `Pending` its outcome."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._operations: list[Operation] = []
        self._asked: dict[Pending[Any], tuple[Method[Any, Any], Any]] = {}  # with methods and requests, in order

    def add(
        self,
        method: Method[Request, Response],
        request: Request,
        fields: Mapping[str, Field] = NO_FIELDS,
        *,
        independent: bool = False,
    ) -> Pending[Response]:
        """Add an operation; it begins after the answer to the one before unless it is `independent`.

        `fields` has the paths in the request that are filled from responses: a single value replaces what the request
        has there, and a repeated field is appended to it. An operation waits for those whose fields it takes, and fails
        with OperationReferenceFailed when one of them does. Raises ValueError for a field of another batch.
        """
        pending: Pending[Response] = Pending(method, len(self._operations) + 1)
        operation = Operation(operation_id=pending.operation_id, independent=independent)
        own = getattr(operation, method.field)
        own.CopyFrom(request)
        for path, field in fields.items():
            if field.pending not in self._asked:
                raise ValueError(f"{path} takes a field of an operation that is not in this batch")
            operation.references.add(
                operation_id=field.pending.operation_id, response_field=field.path, request_field=path
            )
        self._operations.append(operation)
        self._asked[pending] = method, own
        return pending

    async def run(self, *, timeout: float | None = None) -> None:
        """Run the operations, at most 256 and 1 MiB, and wait for all of them.

        Adds request_ids and `min_commit`, renews the session and repeats the batch as a whole, as `Calls.execute` does
        with one call. A batch with an operation that must not be repeated, a later step of a SASL exchange, is sent
        once. An operation with a request_id takes effect once and has its first answer, even when the fields that it
        takes differ in the repetition. Raises the error of the first operation that failed; the others have their
        responses all the same.
        """
        committed = self._complete()

        async def attempt(seconds: float) -> None:
            failures = await self._attempt(seconds)
            if failures:
                raise _deciding(failures, restored=bool(committed))

        repeatable = all(is_repeatable(method, request) for method, request in self._asked.values())
        try:
            if repeatable:
                await self._calls.repeated(attempt, may_pass, committed, timeout)
            else:
                await attempt(self._calls.timeout_seconds if timeout is None else timeout)
        except errors.RestanteError as error:
            failures = [pending.error for pending in self._asked if pending.error is not None]
            raise (failures[0] if error in failures else error) from None

    def _complete(self) -> list[Any]:
        """Add request_ids, which stay for a later run, and min_commit; returns the requests that got min_commit."""
        own_commits = []
        for _, request in self._asked.values():
            completed, own_commit = self._calls.completed(request)
            request.CopyFrom(completed)
            if own_commit:
                own_commits.append(request)
        return own_commits

    async def _attempt(self, seconds: float) -> list[errors.RestanteError]:
        """Send the batch once and settle its operations; returns the failures in order."""
        for operation in self._operations:
            operation.session_token = self._calls.token
            operation.timeout_milliseconds = max(1, int(seconds * 1_000))
        try:
            results = await self._calls.link.execute_once(self._operations, session=self._calls.token, timeout=seconds)
        except errors.RestanteError as error:
            for pending in self._asked:
                pending.fail(error)
        else:
            for pending, result in zip(self._asked, results, strict=True):
                pending.settle(result)
                if pending.error is None:
                    self._calls.remember(pending.response)
        return [pending.error for pending in self._asked if pending.error is not None]


def _deciding(failures: list[errors.RestanteError], *, restored: bool) -> errors.RestanteError:
    """The failure that decides whether the batch is repeated. `restored`: EpochChanged is a reason to repeat it."""
    for failure in failures:
        if isinstance(failure, errors.SessionExpired) or (restored and isinstance(failure, errors.EpochChanged)):
            return failure
    temporary = [failure for failure in failures if may_pass(failure)]
    return max(temporary, key=lambda failure: failure.retry_seconds or 0.0) if temporary else failures[0]
