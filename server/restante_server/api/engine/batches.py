"""BatchService: the Execute streams of a core, and the gRPC handlers of Execute and ExecuteOnce."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

from restante.errors import InvalidArgument
from restante.v1.batch_pb2 import ExecuteOnceResponse, ExecuteRequest, OperationResult
from restante_server.api.engine.allowances import Resource
from restante_server.api.engine.batch import Batch, require_sound
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.execute import Execution, Executor
from restante_server.api.engine.faults import translate
from restante_server.api.engine.rpc import Context, Listener, abort, caller_of

MAX_STREAM_AGE_SECONDS = 600.0  # then the core asks for a new stream (docs/design.md "Operations and batches")


class Batches:
    """The Execute streams of one core, over any binding."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._executions: dict[Execution, tuple[Caller, asyncio.TimerHandle]] = {}  # with the timer of their age

    def announce_draining(self) -> None:
        """Ask every client to send new operations on another stream."""
        for execution in list(self._executions):
            execution.announce_draining()

    def open(self, caller: Caller, changed: Callable[[], None] | None = None) -> Execution:
        """A new stream, which `close` ends. Raises AccountLimitReached."""
        self.executor.allowances.take(caller.party, Resource.STREAMS)
        execution = Execution(self.executor, caller, changed)
        age_seconds = MAX_STREAM_AGE_SECONDS * random.uniform(0.8, 1.0)
        age = asyncio.get_running_loop().call_later(age_seconds, execution.announce_draining)
        self._executions[execution] = caller, age
        return execution

    def close(self, execution: Execution) -> None:
        """End a stream whose client is gone or has everything. A second call does nothing."""
        known = self._executions.pop(execution, None)
        if known is None:
            return
        caller, age = known
        self.executor.allowances.give_back(caller.party, Resource.STREAMS)
        age.cancel()
        execution.abandon()

    def execute(self, listener: Listener) -> Callable[..., Any]:
        """The gRPC handler of Execute."""

        async def serve(requests: Any, context: Context) -> AsyncIterator[Any]:
            try:
                execution = self.open(await caller_of(context, self.executor.authenticator, listener))
            except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
                await abort(context, translate(error, "Execute"))
                return
            feeding = asyncio.create_task(execution.feed(requests))
            try:
                async for response in execution.answers():
                    yield response
                if (problem := feeding.exception()) is not None:
                    known = translate(problem, "Execute") if isinstance(problem, Exception) else InvalidArgument()
                    await abort(context, known)
            finally:
                feeding.cancel()
                self.close(execution)

        return serve

    def execute_once(self, listener: Listener) -> Callable[..., Any]:
        """The gRPC handler of ExecuteOnce."""

        async def serve(request: Any, context: Context) -> Any:
            async def batch() -> AsyncIterator[Batch]:
                yield Batch(ExecuteRequest(operations=request.operations), request.ByteSize())

            stream = Caller()
            try:
                stream = await caller_of(context, self.executor.authenticator, listener)
                require_sound(request)
            except Exception as error:  # noqa: BLE001 - every failure gets a status with a reason
                await abort(context, translate(error, "ExecuteOnce"))
            execution = Execution(self.executor, stream)
            feeding = asyncio.create_task(execution.feed(batch()))
            results: dict[int, OperationResult] = {}
            try:
                async for response in execution.answers():
                    results.update((result.operation_id, result) for result in response.results)
            finally:
                feeding.cancel()
                execution.abandon()
            ordered = [results[operation.operation_id] for operation in request.operations]
            return ExecuteOnceResponse(results=ordered)

        return serve
