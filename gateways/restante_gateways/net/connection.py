"""One client's connection as a byte stream for its session, with limits and timeouts in both directions."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from typing import cast

from restante_gateways.net.addresses import Peer
from restante_gateways.net.bounds import ConnectionBounds, ConnectionLost, Interruption, TimedOut, TlsFailed
from restante_gateways.net.stall import StallWatch
from restante_gateways.net.tls_stream import TlsStream

FLUSH_OCTETS = 65_536  # gathered octets above this are flushed at once


class Connection(asyncio.Protocol):
    """A byte stream for one session task. One task reads; any task of the loop may write.

    Written octets are flushed together at the next `read`, `drain` or turn of the loop, so that the answers to
    pipelined commands share a packet.
    """

    __slots__ = (
        "_bounds", "_buffer", "_closing", "_deadline", "_drainer", "_eof", "_flush_due", "_handshake", "_idle_until",
        "_interruption", "_loop", "_lost", "_pending", "_pending_octets", "_read_paused", "_reader", "_released",
        "_stall", "_timer", "_tls", "_transport", "_write_paused", "idle_timeout_seconds", "octets_in",
        "octets_out", "peer",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: Peer, bounds: ConnectionBounds) -> None:
        self.peer = peer
        self.idle_timeout_seconds = bounds.idle_timeout_seconds
        self.octets_in = self.octets_out = 0  # of plaintext, without TLS overhead
        self._loop, self._bounds = loop, bounds
        self._transport: asyncio.Transport | None = None
        self._tls: TlsStream | None = None
        self._buffer = b""
        self._pending: list[bytes] = []
        self._pending_octets = 0
        self._flush_due = False  # a flush is scheduled for the next turn of the loop
        self._reader: asyncio.Future[None] | None = None
        self._drainer: asyncio.Future[None] | None = None
        self._handshake: asyncio.Future[None] | None = None
        self._released: asyncio.Future[None] | None = None
        self._interruption: Interruption | None = None
        self._deadline: float | None = None  # absolute, loop time
        self._idle_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stall: StallWatch | None = None  # created when writing is first paused
        self._eof = self._lost = self._closing = self._read_paused = self._write_paused = False

    # -- for the session: reading

    async def read(self, *, interruptible: bool = True) -> bytes:
        """All octets received since the last call, at least one; `b""` at the end of the stream.

        A pending Interruption is raised before any octets; with `interruptible=False` (amid a literal or message) only
        TimedOut is. Waits at most `idle_timeout_seconds`.
        """
        while True:
            if self._deadline is not None and self._loop.time() >= self._deadline:
                raise TimedOut
            if self._interruption is not None and (interruptible or isinstance(self._interruption, TimedOut)):
                self.raise_interruption()
            if self._buffer:
                data, self._buffer = self._buffer, b""
                if self._read_paused and self._transport is not None:
                    self._read_paused = False
                    self._transport.resume_reading()
                return data
            if self._eof or self._lost:
                return b""
            self.flush()
            self._arm_timer()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    def set_deadline(self, seconds: float | None) -> None:
        """Make `read` raise TimedOut `seconds` from now, even for a busy client. None removes the deadline."""
        self.set_deadline_at(None if seconds is None else self._loop.time() + seconds)

    def set_deadline_at(self, at: float | None) -> None:
        """Set the deadline as an absolute loop time."""
        self._deadline = at
        if self._reader is not None:
            self._arm_timer()

    def interrupt(self, interruption: Interruption) -> None:
        """Make the session's current or next `read` raise `interruption`. Only TimedOut replaces an earlier one."""
        if self._interruption is None or isinstance(interruption, TimedOut):  # which ends any read
            self._interruption = interruption
            self._wake_reader()

    def raise_interruption(self) -> None:
        """Raise the pending Interruption as `read` would. Sessions with buffered commands call it before each one."""
        if self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            raise interruption

    @property
    def ended(self) -> bool:
        """Whether the client has stopped sending; buffered octets can still be read."""
        return self._eof or self._lost

    @property
    def lost(self) -> bool:
        """Whether nothing more can be sent to the client."""
        return self._lost

    # -- for the session: writing

    def write(self, data: bytes) -> None:
        """Queue `data` without waiting. Does nothing on a lost connection."""
        if self._lost or not data:
            return
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)
        self.gather(data)

    def gather(self, data: bytes) -> None:
        """Queue `data` until the next `read`, `drain` or `flush`, or until FLUSH_OCTETS are queued."""
        if self._lost:
            return
        self.octets_out += len(data)
        self._pending.append(data)
        self._pending_octets += len(data)
        if self._pending_octets >= FLUSH_OCTETS:
            self.flush()

    def flush(self) -> None:
        """Send the queued octets; the transport buffers those that the kernel does not accept."""
        self._flush_due = False
        if not self._pending:
            return
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending.clear()
        self._pending_octets = 0
        if self._lost or self._transport is None:
            return
        if self._write_paused and self._transport.get_write_buffer_size() > self._bounds.write_limit_octets:
            self.abort()
            return
        if self._tls is not None:
            try:
                data = self._tls.send(data)
            except ssl.SSLError:
                self.abort()
                return
        self._transport.write(data)

    @property
    def write_paused(self) -> bool:
        """Whether `drain` would wait or raise. Hot paths await `drain` only then."""
        return self._write_paused or self._lost

    async def drain(self) -> None:
        """Flush, and wait while writing is paused by the high-water mark. Raises ConnectionLost."""
        self.flush()
        while self._write_paused and not self._lost:
            if self._drainer is None:
                self._drainer = self._loop.create_future()
            await asyncio.shield(self._drainer)
        if self._lost:
            raise ConnectionLost

    # -- for the session: TLS and the end

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Flush, discard every octet received so far, and run the server's part of a handshake.

        The caller must discard its parser's buffer too: no octet sent in clear may count as sent under TLS (RFC 9051
        11.1, RFC 3207 4.2, RFC 2595 4). Raises TlsFailed; the connection is then unusable.
        """
        self.flush()
        if self._transport is None or self._lost:
            raise TlsFailed("connection lost")
        self._buffer = b""
        self.begin_tls(context)
        if self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()
        await self.handshake()

    def begin_tls(self, context: ssl.SSLContext) -> None:
        """Treat every octet from here on as TLS. The listener calls this for implicit TLS; sessions use `start_tls`."""
        self._tls = TlsStream(context)
        self._handshake = self._loop.create_future()

    async def handshake(self) -> None:
        """Wait until TLS is established. Raises TlsFailed."""
        assert self._tls is not None and self._handshake is not None
        try:
            async with asyncio.timeout(self._bounds.handshake_timeout_seconds):
                await self._handshake
        except TimeoutError:
            raise TlsFailed("timed out") from None
        finally:
            self._handshake = None
        self.peer = dataclasses.replace(self.peer, tls=self._tls.facts())

    async def close(self) -> None:
        """Flush, close the sending direction, and wait up to `linger_seconds` for the client to close the other one.

        Without the wait, unread octets would turn the close into a reset, which can overtake the last answer.
        """
        self.flush()
        if self._transport is None:
            return
        self._closing = True
        self._stop_timers()
        self._released = self._loop.create_future()
        if not self._lost:
            self._send_close()
        if not self._lost:
            await asyncio.wait([self._released], timeout=self._bounds.linger_seconds)
        if not self._lost:
            self._transport.abort()

    def abort(self) -> None:
        """Abort the connection; it is then ended and lost."""
        if self._transport is not None:
            self._transport.abort()
        self._set_lost()

    def _send_close(self) -> None:
        assert self._transport is not None
        if self._tls is not None:
            alert = self._tls.close()
            if alert:
                self._transport.write(alert)
        if self._eof or not self._transport.can_write_eof():
            self._transport.close()
            return
        if self._read_paused:
            self._transport.resume_reading()
        try:
            self._transport.write_eof()
        except OSError:  # the client has reset it, and the loop has not reported that yet
            self._transport.abort()

    # -- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport has the methods, but not the class
        self._transport.set_write_buffer_limits(self._bounds.write_high_octets, self._bounds.write_low_octets)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._tls is not None:
            data = self._decrypt(data)
        if not data:
            return
        self.octets_in += len(data)
        self._buffer = self._buffer + data if self._buffer else data
        if len(self._buffer) >= self._bounds.read_buffer_octets and not self._read_paused:
            self._read_paused = True
            assert self._transport is not None
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        """Record the client's half-close. The session still answers the commands before it, then closes."""
        self._eof = True
        self._wake_reader()
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_exception(TlsFailed("client closed the connection"))
        if self._closing and self._transport is not None:
            self._transport.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_lost()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._stall is None:
            self._stall = StallWatch(self._loop, self._bounds.stalled_timeout_seconds, self._unsent, self.abort)
        self._stall.begin()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._stall is not None:
            self._stall.end()
        self._wake_drainer()

    # -- inside

    def _decrypt(self, data: bytes) -> bytes:
        assert self._tls is not None and self._transport is not None
        tls = self._tls
        try:
            plain = tls.receive(data)
        except ssl.SSLError as error:
            alert = tls.output()
            if alert:
                self._transport.write(alert)
            if self._handshake is not None and not self._handshake.done():
                self._handshake.set_exception(TlsFailed(error.reason or str(error)))
            else:
                self.abort()
            return b""
        answer = tls.output()
        if answer:
            self._transport.write(answer)
        if tls.established and self._handshake is not None and not self._handshake.done():
            self._handshake.set_result(None)
        if tls.ended and not self._eof:
            self.eof_received()
        return plain

    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake_drainer(self) -> None:
        if self._drainer is not None:
            if not self._drainer.done():
                self._drainer.set_result(None)
            self._drainer = None

    def _set_lost(self) -> None:
        self._lost = self._eof = True
        self._pending.clear()
        self._stop_timers()
        self._wake_reader()
        self._wake_drainer()
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_exception(TlsFailed("connection lost"))
        if self._released is not None and not self._released.done():
            self._released.set_result(None)

    def _stop_timers(self) -> None:
        if self._stall is not None:
            self._stall.end()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm_timer(self) -> None:
        """Set the connection's single timer, unless it fires early enough; an early timer is then set again."""
        self._idle_until = self._loop.time() + self.idle_timeout_seconds
        until = self._idle_until if self._deadline is None else min(self._idle_until, self._deadline)
        if self._timer is not None and self._timer.when() > until:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(until, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        if self._reader is None:
            return  # the session is busy; its next read sets the timer again
        now = self._loop.time()
        if now >= self._idle_until or (self._deadline is not None and now >= self._deadline):
            self.interrupt(TimedOut())
        else:
            until = self._idle_until if self._deadline is None else min(self._idle_until, self._deadline)
            self._timer = self._loop.call_at(until, self._timer_fired)
