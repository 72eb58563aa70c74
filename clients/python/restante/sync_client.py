"""The native client for programs without an event loop: blocking methods with the same names.

with SyncClient.connect("localhost:2051", root_certificates=pem, user=address, password=secret) as me:
    for message in me.messages.query("INBOX"):
        print(message.summary.subject)
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from restante.account import Account
from restante.batch import Batch
from restante.changes import Changes
from restante.client import Client
from restante.contents import Contents
from restante.directory import Directory
from restante.drafts import Drafts
from restante.folders import Folders
from restante.jobs import Jobs
from restante.mailboxes import Mailboxes
from restante.messages import Messages
from restante.methods import Method, Request, Response
from restante.queue import Queue
from restante.submissions import Submissions
from restante.target import Target
from restante.v1.session_pb2 import GetServerResponse

__all__ = ["SyncClient"]

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")


class LoopThread:
    """An event loop on a separate thread, from entering the context to leaving it."""

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
        """Return the result of a coroutine; an interrupt of the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """The items, each fetched when the caller asks for it."""
        try:
            while True:
                try:
                    item = self.run(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None and self._thread.is_alive():  # otherwise the end of the loop closed it
                self.run(close())


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


class _Blocking(Generic[A]):
    """An object of the asynchronous client, and the thread that runs its calls."""

    def __init__(self, wrapped: A, thread: LoopThread) -> None:
        self._wrapped, self._thread = wrapped, thread


def _call(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Blocking[A], P], T]:
    @functools.wraps(method)
    def call(self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.run(method(self._wrapped, *args, **kwargs))

    return call


def _iterator(
    method: Callable[Concatenate[A, P], AsyncIterator[T]],
) -> Callable[Concatenate[_Blocking[A], P], Iterator[T]]:
    @functools.wraps(method)
    def call(self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._thread.iterate(method(self._wrapped, *args, **kwargs))

    # `help` would show the signature of the wrapped method, which returns another kind of iterator.
    asynchronous = inspect.signature(method)
    returned = str(asynchronous.return_annotation).replace("AsyncIterator", "Iterator", 1)
    call.__signature__ = asynchronous.replace(return_annotation=returned)  # type: ignore[attr-defined]
    return call


class SyncAccount(_Blocking[Account]):
    """`restante.account.Account`, blocking."""

    get = _call(Account.get)
    change_password = _call(Account.change_password)
    log_off = _call(Account.log_off)


class SyncDirectory(_Blocking[Directory]):
    """`restante.directory.Directory`, blocking."""

    list = _iterator(Directory.list)
    get = _call(Directory.get)
    resolve = _call(Directory.resolve)


class SyncMailboxes(_Blocking[Mailboxes]):
    """`restante.mailboxes.Mailboxes`, blocking."""

    get = _call(Mailboxes.get)
    list = _iterator(Mailboxes.list)


class SyncFolders(_Blocking[Folders]):
    """`restante.folders.Folders`, blocking."""

    list = _iterator(Folders.list)
    get = _call(Folders.get)
    by_role = _call(Folders.by_role)
    id_of = _call(Folders.id_of)
    create = _call(Folders.create)
    move = _call(Folders.move)
    delete = _call(Folders.delete)
    subscribe = _call(Folders.subscribe)
    subscriptions = _iterator(Folders.subscriptions)
    open = _iterator(Folders.open)


class SyncContents(_Blocking[Contents]):
    """`restante.contents.Contents`, blocking."""

    read = _call(Contents.read)
    read_text = _call(Contents.read_text)
    stream = _iterator(Contents.stream)
    stream_part = _iterator(Contents.stream_part)
    upload = _call(Contents.upload)


class SyncMessages(_Blocking[Messages]):
    """`restante.messages.Messages`, blocking."""

    query = _iterator(Messages.query)
    get = _call(Messages.get)
    open = _call(Messages.open)
    stream = _iterator(Messages.stream)
    append = _call(Messages.append)
    set_flags = _call(Messages.set_flags)
    move = _call(Messages.move)
    copy = _call(Messages.copy)
    delete = _call(Messages.delete)
    recoverable = _iterator(Messages.recoverable)
    recover = _call(Messages.recover)
    purge = _call(Messages.purge)


class SyncDrafts(_Blocking[Drafts]):
    """`restante.drafts.Drafts`, blocking."""

    compose = _call(Drafts.compose)
    save = _call(Drafts.save)


class SyncSubmissions(_Blocking[Submissions]):
    """`restante.submissions.Submissions`, blocking."""

    submit = _call(Submissions.submit)
    list = _iterator(Submissions.list)
    get = _call(Submissions.get)
    cancel = _call(Submissions.cancel)


class SyncChanges(_Blocking[Changes]):
    """`restante.changes.Changes`, blocking."""

    watch = _iterator(Changes.watch)
    watch_mailbox = _iterator(Changes.watch_mailbox)
    sync = _iterator(Changes.sync)


class SyncJobs(_Blocking[Jobs]):
    """`restante.jobs.Jobs`, blocking."""

    check_store = _call(Jobs.check_store)
    back_up_store = _call(Jobs.back_up_store)
    delete_account = _call(Jobs.delete_account)
    get = _call(Jobs.get)
    list = _iterator(Jobs.list)
    findings = _iterator(Jobs.findings)
    watch = _iterator(Jobs.watch)
    wait = _call(Jobs.wait)
    cancel = _call(Jobs.cancel)


class SyncQueue(_Blocking[Queue]):
    """`restante.queue.Queue`, blocking."""

    list = _iterator(Queue.list)
    get = _call(Queue.get)
    header = _call(Queue.header)
    content = _iterator(Queue.content)
    hold = _call(Queue.hold)
    release = _call(Queue.release)
    holds = _iterator(Queue.holds)
    retry = _call(Queue.retry)
    reroute = _call(Queue.reroute)
    remove = _call(Queue.remove)


class SyncBatch:
    """See `restante.batch.Batch`."""

    def __init__(self, batch: Batch, thread: LoopThread) -> None:
        self._batch, self._thread = batch, thread
        self.add = batch.add

    def run(self, *, timeout: float | None = None) -> None:
        """See `Batch.run`."""
        self._thread.run(self._batch.run(timeout=timeout))


class SyncClient:
    """`restante.client.Client`, blocking. Any thread may use it; an iterator belongs to one thread at a time."""

    def __init__(self, client: Client, thread: LoopThread) -> None:
        self._client, self._thread = client, thread
        self.account = SyncAccount(client.account, thread)
        self.directory = SyncDirectory(client.directory, thread)
        self.mailboxes = SyncMailboxes(client.mailboxes, thread)
        self.folders = SyncFolders(client.folders, thread)
        self.contents = SyncContents(client.contents, thread)
        self.messages = SyncMessages(client.messages, thread)
        self.drafts = SyncDrafts(client.drafts, thread)
        self.submissions = SyncSubmissions(client.submissions, thread)
        self.changes = SyncChanges(client.changes, thread)
        self.jobs = SyncJobs(client.jobs, thread)
        self.queue = SyncQueue(client.queue, thread)

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
        """See `Client.connect`."""
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
        """See `Client.execute`."""
        return self._thread.run(self._client.execute(method, request, timeout=timeout, independent=independent))

    def batch(self) -> SyncBatch:
        """See `Client.batch`."""
        return SyncBatch(self._client.batch(), self._thread)

    def server(self) -> GetServerResponse:
        """See `Client.server`."""
        return self._thread.run(self._client.server())

    def pages(
        self, method: Method[Request, Response], request: Request, *, timeout: float | None = None
    ) -> Iterator[Response]:
        """See `Client.pages`."""
        return self._thread.iterate(self._client.pages(method, request, timeout=timeout))


async def _enter(context: AbstractAsyncContextManager[Client]) -> Client:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[Client]) -> None:
    await context.__aexit__(None, None, None)
