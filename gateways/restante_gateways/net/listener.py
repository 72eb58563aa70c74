"""Accepting connections: limits, PROXY protocol, TLS, one session for each, and draining."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from restante_gateways.net.addresses import Peer
from restante_gateways.net.bounds import ConnectionBounds, ConnectionLost, Draining, Interruption, TlsFailed
from restante_gateways.net.connection import Connection
from restante_gateways.net.metrics import GatewayMetrics
from restante_gateways.net.proxy_protocol import MAX_V2_OCTETS, ProxyHeader, ProxyProtocolError, parse
from restante_process.addresses import Endpoint, Network, endpoint, in_networks, is_loopback
from restante_process.limits import ConnectionLimiter, Refusal
from restante_process.tls import Certificates

ACCEPT_BURST = 64  # connections accepted in one turn of the loop
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger("listener")

Session = Callable[[Connection], Awaitable[None]]
"""Serves one connection until it returns; the listener then closes it, and catches Interruptions too."""


@dataclass(frozen=True)
class ListenerSettings:
    """One named listener. With `proxy_from`, it accepts only connections from these networks with a PROXY header.

    With `allow_from`, it serves only clients of these networks, and those of a Unix socket.
    """

    name: str
    implicit_tls: bool = False
    starttls: bool = False  # passed to sessions as `Peer.starttls`
    proxy_from: tuple[Network, ...] = ()
    allow_from: tuple[Network, ...] | None = None
    bounds: ConnectionBounds = field(default_factory=ConnectionBounds)
    refusals: Mapping[Refusal, bytes] = field(default_factory=dict)  # whole lines; not sent under implicit TLS
    proxy_timeout_seconds: float = 5.0  # for the PROXY header to arrive
    accept_pause_seconds: float = 1.0  # after a lack of descriptors or memory


class Listener:
    """Accepts on `sockets`, which it owns and closes, and runs `session` with a Connection for each client."""

    def __init__(
        self,
        settings: ListenerSettings,
        sockets: Sequence[socket.socket],
        session: Session,
        *,
        limiter: ConnectionLimiter,
        metrics: GatewayMetrics,
        certificates: Certificates | None = None,
    ) -> None:
        if (settings.implicit_tls or settings.starttls) and certificates is None:
            raise ValueError(f"listener {settings.name} needs a certificate")
        self.settings = settings
        self._sockets, self._session = list(sockets), session
        self._limiter, self._metrics, self._certificates = limiter, metrics, certificates
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._resume: dict[int, asyncio.TimerHandle] = {}
        self._draining = False  # later connections are interrupted at once

    @property
    def addresses(self) -> list[Endpoint]:
        """The addresses of its sockets."""
        return [endpoint(listening.getsockname()) for listening in self._sockets]

    def start(self) -> None:
        """Start accepting."""
        for listening in self._sockets:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    async def drain(self, timeout_seconds: float) -> None:
        """Stop accepting, interrupt all sessions, wait at most `timeout_seconds` for them, then abort the rest."""
        self._draining = True
        self._stop_accepting()
        for connection in self._connections:
            connection.interrupt(Draining())
        if await self._wait_idle(timeout_seconds):
            return
        for connection in self._connections:
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await self._wait_idle(1.0)

    def _stop_accepting(self) -> None:
        for timer in self._resume.values():
            timer.cancel()
        for listening in self._sockets:
            self._loop.remove_reader(listening.fileno())
            self._accept(listening)  # closing the socket would reset connections in its queue
            if listening.fileno() in self._resume:
                self._resume.pop(listening.fileno()).cancel()
            listening.close()
        self._sockets.clear()

    async def _wait_idle(self, timeout_seconds: float) -> bool:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)
        return not self._tasks

    # -- accepting

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT_BURST):
            try:
                client, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in OUT_OF_RESOURCES:
                    raise
                self._pause_accepting(listening, error)
                return
            self._admit(client, address)

    def _pause_accepting(self, listening: socket.socket, error: OSError) -> None:
        """Pause accepting, since the loop would otherwise spin on a connection that it cannot accept."""
        log.error("cannot accept", listener=self.settings.name, reason=error.strerror)
        descriptor = listening.fileno()
        self._loop.remove_reader(descriptor)

        def resume() -> None:
            del self._resume[descriptor]
            self._loop.add_reader(descriptor, self._accept, listening)

        self._resume[descriptor] = self._loop.call_later(self.settings.accept_pause_seconds, resume)

    def _admit(self, client: socket.socket, address: object) -> None:
        client.setblocking(False)
        try:
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            local = endpoint(client.getsockname())
        except OSError:  # the client has disconnected already
            client.close()
            return
        real = endpoint(address)
        if self.settings.proxy_from:
            if in_networks(real.host, self.settings.proxy_from):
                self._spawn(self._open_behind_proxy(client, real, local))
            else:
                self._metrics.connection_refused(self.settings.name, "no proxy")
                client.close()
            return
        loopback = is_loopback(real.host) and is_loopback(local.host)
        self._open(client, Peer(real, local, self.settings.name, loopback, self.settings.starttls))

    def _open(self, client: socket.socket, peer: Peer) -> None:
        allowed = self.settings.allow_from
        if allowed is not None and client.family != socket.AF_UNIX and not in_networks(peer.client.host, allowed):
            log.info("client not allowed", listener=self.settings.name, client=peer.client.host)
            self._metrics.connection_refused(self.settings.name, "not allowed")
            client.close()
            return
        refusal = self._limiter.admit(peer.client.host, self._loop.time())
        if refusal is None:
            self._metrics.connection_opened(self.settings.name)
            self._spawn(self._serve(client, peer))
        else:
            self._refuse(client, refusal)

    async def _serve(self, client: socket.socket, peer: Peer) -> None:
        connection = Connection(self._loop, peer, self.settings.bounds)
        self._connections.add(connection)
        if self._draining:  # the connection waited in the queue, or for its PROXY header
            connection.interrupt(Draining())
        try:
            if self.settings.implicit_tls and self._certificates is not None:
                connection.begin_tls(self._certificates.context)
                await self._loop.connect_accepted_socket(lambda: connection, client)
                await connection.handshake()
            else:
                await self._loop.connect_accepted_socket(lambda: connection, client)
            await self._session(connection)
        except TlsFailed as error:
            self._metrics.connection_refused(self.settings.name, "tls")
            log.debug("TLS failed", listener=self.settings.name, client=peer.client.host, reason=str(error))
        except (ConnectionLost, Interruption, OSError):
            pass  # normal ends of a session
        finally:
            await connection.close()
            self._connections.discard(connection)
            self._limiter.release(peer.client.host)
            self._metrics.connection_closed(self.settings.name)

    def _refuse(self, client: socket.socket, refusal: Refusal) -> None:
        self._metrics.connection_refused(self.settings.name, refusal.name.lower())
        line = self.settings.refusals.get(refusal)
        try:
            if line is not None and not self.settings.implicit_tls:
                client.send(line)
        except OSError:
            pass  # the client has disconnected already
        finally:
            client.close()

    async def _open_behind_proxy(self, client: socket.socket, real: Endpoint, local: Endpoint) -> None:
        try:
            async with asyncio.timeout(self.settings.proxy_timeout_seconds):
                header = await _read_proxy_header(self._loop, client)
        except (ProxyProtocolError, TimeoutError, OSError) as error:
            log.info("no PROXY header", listener=self.settings.name, proxy=real.host, reason=str(error) or "timed out")
            self._metrics.connection_refused(self.settings.name, "proxy header")
            client.close()
            return
        source, target = header.client or real, header.local or local
        self._open(client, Peer(source, target, self.settings.name, False, self.settings.starttls))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("session failed", listener=self.settings.name, exc_info=error)


async def _read_proxy_header(loop: asyncio.AbstractEventLoop, client: socket.socket) -> ProxyHeader:
    """Read exactly the header from the socket: the transport must read the octets after it, perhaps TLS.

    Raises ProxyProtocolError, OSError.
    """
    data = b""
    while True:
        readable = loop.create_future()
        loop.add_reader(client.fileno(), _set_once, readable)
        try:
            await readable
        finally:
            loop.remove_reader(client.fileno())
        peeked = client.recv(MAX_V2_OCTETS - len(data), socket.MSG_PEEK)
        if not peeked:
            raise ProxyProtocolError("closed before the header")
        header = parse(data + peeked)
        belonging = len(peeked) if header is None else header.octets - len(data)
        data += client.recv(belonging)
        if header is not None:
            return header


def _set_once(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
