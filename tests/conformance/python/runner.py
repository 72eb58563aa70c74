"""The Python SDK's runner: ../README.md describes its commands and answers.

It is also the example for other languages, and therefore imports only the SDK.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import platform
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.message import Message

import restante
from restante import errors, streams
from restante.client import Client
from restante.methods import Method
from restante.target import Target
from restante.v1 import admin_pb2, methods, sync_pb2, transport_pb2  # those without an operation of a batch
from restante.v1.batch_pb2 import ExecuteOnceRequest, ExecuteOnceResponse, Operation
from restante.v1.content_pb2 import UploadKind
from restante.v1.message_pb2 import MessageColumn, Section
from restante.v1.sync_pb2 import SyncMailboxResponse

FILES = (admin_pb2, sync_pb2, transport_pb2)
UNARY: dict[str, Method[Any, Any]] = {f"{method.service}/{method.name}": method for method in methods.ALL}
TIMEOUT_MILLISECONDS = 30_000


class Rpc(NamedTuple):
    """One RPC of the contract."""

    path: str
    request: type[Message]
    response: type[Message]
    streams: bool


def rpc(name: str) -> Rpc:
    """An RPC by its name, such as FolderService/GetFolder."""
    service, _, method = name.partition("/")
    found = descriptor_pool.Default().FindServiceByName(f"restante.v1.{service}").FindMethodByName(method)
    request, response = map(message_factory.GetMessageClass, (found.input_type, found.output_type))
    return Rpc(f"/restante.v1.{name}", request, response, found.server_streaming)


def read(kind: type[Message], value: Any) -> Any:
    """Read a message from the judge."""
    return json_format.ParseDict(value, kind())


def shown(message: Message) -> Any:
    """Convert a message for the judge."""
    return json_format.MessageToDict(message)


def shown_error(error: errors.RestanteError) -> dict[str, Any]:
    """Convert an error of the SDK for the judge."""
    unknown = isinstance(error, errors.UnknownReason)
    found = {
        "code": (error.status_code if isinstance(error, errors.UnknownReason) else error.code).name,
        "reason": error.name if isinstance(error, errors.UnknownReason) and unknown else error.reason,
        "metadata": error.metadata,
        "message": error.detail,
        "violations": [violation._asdict() for violation in error.violations],
        "text": str(error),
        "type": type(error).__name__,
    }
    return found if error.retry_seconds is None else {**found, "retry_seconds": error.retry_seconds}


class Stream:
    """A stream of the SDK, read in the background."""

    def __init__(self, events: AsyncIterator[Any], show: Callable[[Any], Any]) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(events, show))

    async def _read(self, events: AsyncIterator[Any], show: Callable[[Any], Any]) -> None:
        try:
            async with contextlib.aclosing(events) as opened:  # type: ignore[type-var]
                async for event in opened:
                    self._queue.put_nowait({"result": {"event": show(event)}})
            self._queue.put_nowait({"result": {"end": True}})
        except errors.RestanteError as error:
            self._queue.put_nowait({"error": shown_error(error)})

    async def next(self, seconds: float) -> dict[str, Any]:
        """The next event of the stream."""
        try:
            async with asyncio.timeout(seconds):
                return await self._queue.get()
        except TimeoutError:
            return {"result": {"event": None}}

    async def stop(self) -> None:
        """End the stream, at the server too."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Runner:
    """The commands; each is a method of its name."""

    def __init__(self, hello: dict[str, str]) -> None:
        roots = Path(hello["ca"]).read_bytes()
        self._target = Target(hello["target"], root_certificates=roots)
        self._gateways = Target(hello["gateway_target"], root_certificates=roots)
        self._clients: dict[str, tuple[Client, AsyncExitStack]] = {}
        self._streams: dict[str, Stream] = {}
        self._channels: dict[Target, grpc.aio.Channel] = {}

    async def close(self) -> None:
        """End all streams, clients and channels."""
        for stream in self._streams.values():
            await stream.stop()
        for _, stack in self._clients.values():
            await stack.aclose()
        for channel in self._channels.values():
            await channel.close()

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run a command and return the answer without its id."""
        method = getattr(self, f"do_{command['do']}", None)
        if method is None:
            return {"unsupported": f"there is no command {command['do']}"}
        try:
            result: dict[str, Any] = await method(command)
        except errors.RestanteError as error:
            return {"error": shown_error(error)}
        if command["do"] == "next":
            return result
        return {"result": result}

    # --- The session layer ----------------------------------------------------------------------------------------

    async def _opened(self, name: str, **proof: Any) -> dict[str, Any]:
        if name in self._clients:
            await self._clients.pop(name)[1].aclose()
        stack = AsyncExitStack()
        client = await stack.enter_async_context(Client.connect(self._target, **proof))
        self._clients[name] = client, stack
        return {"session": shown(client.session.info)}

    async def do_log_on(self, command: dict[str, Any]) -> dict[str, Any]:
        return await self._opened(command["session"], user=command["user"], password=command["password"])

    async def do_resume(self, command: dict[str, Any]) -> dict[str, Any]:
        return await self._opened(command["session"], token=base64.b64decode(command["token"]))

    async def do_session(self, command: dict[str, Any]) -> dict[str, Any]:
        return {"session": shown(self._clients[command["session"]][0].session.info)}

    async def do_renew(self, command: dict[str, Any]) -> dict[str, Any]:
        await self._clients[command["session"]][0].session.renew()
        return await self.do_session(command)

    async def do_change_password(self, command: dict[str, Any]) -> dict[str, Any]:
        await self._clients[command["session"]][0].account.change_password(command["old"], command["new"])
        return await self.do_session(command)

    async def do_log_off(self, command: dict[str, Any]) -> dict[str, Any]:
        await self._clients[command["session"]][0].account.log_off()
        return {}

    async def do_close(self, command: dict[str, Any]) -> dict[str, Any]:
        await self._clients.pop(command["session"])[1].aclose()
        return {}

    # --- Calls ----------------------------------------------------------------------------------------------------

    def _client(self, command: dict[str, Any]) -> Client:
        return self._clients[command["as"]["session"]][0]

    def _caller(self, command: dict[str, Any]) -> tuple[grpc.aio.Channel, tuple[tuple[str, str], ...]]:
        """A channel and the metadata of the caller."""
        caller, target, metadata = command.get("as", {}), self._target, streams.call_metadata(())
        if "identity" in caller:
            target = self._gateways
            metadata = (("restante-identity", caller["identity"]), ("restante-secret", caller["secret"]))
        elif "token" in caller:
            metadata = streams.call_metadata((), base64.b64decode(caller["token"]))
        elif caller:
            metadata = streams.call_metadata((), self._client(command).calls.token)
        if target not in self._channels:
            self._channels[target] = target.open_channel()
        return self._channels[target], metadata

    async def do_rpc(self, command: dict[str, Any]) -> dict[str, Any]:
        called, (channel, metadata) = rpc(command["method"]), self._caller(command)
        request = read(called.request, command["request"])
        timeout = command.get("timeout_milliseconds", TIMEOUT_MILLISECONDS) / 1_000
        multi = channel.unary_stream if called.streams else channel.unary_unary
        stub = multi(called.path, called.request.SerializeToString, called.response.FromString)
        call = stub(request, metadata=metadata, timeout=timeout)
        if "cancel_after_milliseconds" in command:
            asyncio.get_running_loop().call_later(command["cancel_after_milliseconds"] / 1_000, call.cancel)
        try:
            return await self._read(call, called.streams, command.get("take"))
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            raise errors.Cancelled("The call was cancelled.") from None
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None

    async def _read(self, call: Any, streams_responses: bool, take: int | None) -> dict[str, Any]:
        if not streams_responses:
            return {"response": shown(await call)}
        responses: list[Any] = []
        while take is None or len(responses) < take:
            message = await call.read()
            if message is grpc.aio.EOF:
                return {"responses": responses, "complete": True}
            responses.append(shown(message))
        call.cancel()
        return {"responses": responses, "complete": False}

    async def do_call(self, command: dict[str, Any]) -> dict[str, Any]:
        method = UNARY[command["method"]]
        timeout = command.get("timeout_milliseconds", TIMEOUT_MILLISECONDS) / 1_000
        request = read(method.request, command["request"])
        return {"response": shown(await self._client(command).execute(method, request, timeout=timeout))}

    async def do_pages(self, command: dict[str, Any]) -> dict[str, Any]:
        method = UNARY[command["method"]]
        request = read(method.request, command["request"])
        return {"responses": [shown(page) async for page in self._client(command).pages(method, request)]}

    async def do_execute(self, command: dict[str, Any]) -> dict[str, Any]:
        client = self._client(command)

        async def one(operation: dict[str, Any]) -> dict[str, Any]:
            method = UNARY[operation["method"]]
            try:
                response = await client.calls.link.execute(
                    method,
                    read(method.request, operation["request"]),
                    session=client.calls.token,
                    timeout=operation.get("timeout_milliseconds", TIMEOUT_MILLISECONDS) / 1_000,
                    independent=operation.get("independent", False),
                )
            except errors.RestanteError as error:
                return {"error": shown_error(error)}
            return {"response": shown(response)}

        return {"outcomes": await asyncio.gather(*map(one, command["operations"]))}

    async def do_execute_once(self, command: dict[str, Any]) -> dict[str, Any]:
        channel, metadata = self._caller(command)
        request = ExecuteOnceRequest()
        for number, operation in enumerate(command["operations"], 1):
            method = UNARY[operation["method"]]
            added: Operation = request.operations.add(
                operation_id=number,
                timeout_milliseconds=operation.get("timeout_milliseconds", 0),
                independent=operation.get("independent", False),
            )
            if "session" in command.get("as", {}):
                added.session_token = self._client(command).calls.token
            getattr(added, method.field).CopyFrom(read(method.request, operation["request"]))
        stub = channel.unary_unary(
            "/restante.v1.BatchService/ExecuteOnce",
            ExecuteOnceRequest.SerializeToString,
            ExecuteOnceResponse.FromString,
        )
        try:
            response: ExecuteOnceResponse = await stub(request, metadata=metadata)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        return {
            "outcomes": [
                {"error": shown_error(errors.from_status(result.status))}
                if result.HasField("status")
                else {"response": shown(getattr(result, UNARY[operation["method"]].field))}
                for operation, result in zip(command["operations"], response.results, strict=True)
            ]
        }

    # --- Octets ---------------------------------------------------------------------------------------------------

    async def do_upload(self, command: dict[str, Any]) -> dict[str, Any]:
        kind = UploadKind.Value(command["kind"])
        return {"response": shown(await self._client(command).contents.upload(kind, Path(command["path"])))}

    async def do_read(self, command: dict[str, Any]) -> dict[str, Any]:
        section = read(Section, command["section"]) if "section" in command else None
        octets = await self._client(command).contents.read(int(command["message_id"]), section)
        return {"octets": base64.b64encode(octets).decode()}

    # --- Streams --------------------------------------------------------------------------------------------------

    async def do_watch(self, command: dict[str, Any]) -> dict[str, Any]:
        events = self._client(command).changes.watch(int(command["folder_id"]), snapshot=True)
        self._streams[command["stream"]] = Stream(
            events, lambda event: {"fresh": event.fresh, "changes": shown(event.changes)}
        )
        return {}

    async def do_sync(self, command: dict[str, Any]) -> dict[str, Any]:
        events = self._client(command).changes.sync(
            folder=int(command["folder_id"]) if "folder_id" in command else None,
            cursor=base64.b64decode(command.get("cursor", "")),
            columns=[MessageColumn.Value(name) for name in command.get("columns", [])],
            follow=command["follow"],
        )
        self._streams[command["stream"]] = Stream(events, _shown_change)
        return {}

    async def do_next(self, command: dict[str, Any]) -> dict[str, Any]:
        return await self._streams[command["stream"]].next(command["timeout_milliseconds"] / 1_000)

    async def do_stop(self, command: dict[str, Any]) -> dict[str, Any]:
        await self._streams.pop(command["stream"]).stop()
        return {}


def _shown_change(change: SyncMailboxResponse) -> Any:
    return shown(change)


def write(line: dict[str, Any]) -> None:
    """Write one line to the judge."""
    print(json.dumps(line), flush=True)


async def main() -> None:
    """Run commands until the input ends."""
    hello = json.loads(await asyncio.to_thread(sys.stdin.readline))["hello"]
    runner = Runner(hello)
    runtime = f"Python {platform.python_version()}, grpcio {grpc.__version__}"
    write({"ready": {"sdk": restante.__version__, "runtime": runtime, "encoding": "json"}})
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            write({"id": command["id"], **await runner.do(command)})
    finally:
        await runner.close()


if __name__ == "__main__":
    asyncio.run(main())
