"""The native client for programs without an event loop: the same names, blocking.

with SyncClient.connect("localhost:2051", root_certificates=pem, user=address, password=secret) as me:
    for message in me.messages("INBOX"):
        print(message.summary.subject)
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

from restante.client import Client
from restante.methods import Method, Request, Response
from restante.target import Target

__all__ = ["SyncClient"]

P = ParamSpec("P")
T = TypeVar("T")


class LoopThread:
    """An event loop on a thread of its own, as long as it is entered."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="restante client", daemon=True)

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine; an interrupt of the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items, each fetched when it is asked for."""
        try:
            while True:
                try:
                    item = self.run(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None and self._thread.is_alive():  # otherwise it was closed with the loop
                self.run(close())


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


def _blocking(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncClient, P], T]:
    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.run(method(self._client, *args, **kwargs))

    return call


def _iterating(
    method: Callable[Concatenate[Client, P], AsyncIterator[T]],
) -> Callable[Concatenate[SyncClient, P], Iterator[T]]:
    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._thread.iterate(method(self._client, *args, **kwargs))

    # `help` would show the signature of the wrapped method, which returns another kind of iterator.
    asynchronous = inspect.signature(method)
    returned = str(asynchronous.return_annotation).replace("AsyncIterator", "Iterator", 1)
    call.__signature__ = asynchronous.replace(return_annotation=returned)  # type: ignore[attr-defined]
    return call


class SyncClient:
    """`restante.client.Client`, blocking. Use it from any thread; iterators from one at a time."""

    def __init__(self, client: Client, thread: LoopThread) -> None:
        self._client, self._thread = client, thread

    @classmethod
    @contextmanager
    def connect(
        cls,
        target: str | Target | Sequence[str | Target],
        *,
        user: str = "",
        password: str = "",
        token: bytes = b"",
        root_certificates: bytes | None = None,
        server_name: str = "",
        keep_password: bool = True,
        timeout_seconds: float = 30.0,
    ) -> Iterator[SyncClient]:
        """As `Client.connect`."""
        with LoopThread() as thread:
            context: AbstractAsyncContextManager[Client] = Client.connect(
                target,
                user=user,
                password=password,
                token=token,
                root_certificates=root_certificates,
                server_name=server_name,
                keep_password=keep_password,
                timeout_seconds=timeout_seconds,
            )
            client = thread.run(_enter(context))
            try:
                yield cls(client, thread)
            finally:
                thread.run(_leave(context))

    def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        timeout: float | None = None,
        independent: bool = False,
    ) -> Response:
        """As `Client.execute`."""
        return self._thread.run(self._client.execute(method, request, timeout=timeout, independent=independent))

    who_am_i = _blocking(Client.who_am_i)
    change_password = _blocking(Client.change_password)
    log_off = _blocking(Client.log_off)
    resolve = _blocking(Client.resolve)
    directory = _iterating(Client.directory)
    directory_entry = _blocking(Client.directory_entry)

    mailbox = _blocking(Client.mailbox)
    mailboxes = _iterating(Client.mailboxes)
    folders = _iterating(Client.folders)
    folder = _blocking(Client.folder)
    folder_by_role = _blocking(Client.folder_by_role)
    folder_id = _blocking(Client.folder_id)
    create_folder = _blocking(Client.create_folder)
    move_folder = _blocking(Client.move_folder)
    delete_folder = _blocking(Client.delete_folder)
    subscribe = _blocking(Client.subscribe)
    subscriptions = _iterating(Client.subscriptions)
    open_folder = _iterating(Client.open_folder)

    messages = _iterating(Client.messages)
    message = _blocking(Client.message)
    open_message = _blocking(Client.open_message)
    read = _blocking(Client.read)
    stream_messages = _iterating(Client.stream_messages)
    read_stream = _iterating(Client.read_stream)
    part_stream = _iterating(Client.part_stream)
    part_text = _blocking(Client.part_text)
    append = _blocking(Client.append)
    set_flags = _blocking(Client.set_flags)
    move = _blocking(Client.move)
    copy = _blocking(Client.copy)
    delete = _blocking(Client.delete)
    recoverable = _iterating(Client.recoverable)
    recover = _blocking(Client.recover)
    purge = _blocking(Client.purge)
    upload = _blocking(Client.upload)

    compose = _blocking(Client.compose)
    save_draft = _blocking(Client.save_draft)
    submit = _blocking(Client.submit)
    submissions = _iterating(Client.submissions)
    submission = _blocking(Client.submission)
    cancel_submission = _blocking(Client.cancel_submission)

    watch = _iterating(Client.watch)
    watch_mailbox = _iterating(Client.watch_mailbox)
    sync = _iterating(Client.sync)


async def _enter(context: AbstractAsyncContextManager[Client]) -> Client:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[Client]) -> None:
    await context.__aexit__(None, None, None)
