"""The content of DATA, streamed from the client to the core in bounded memory (RFC 5321 4.1.1.4)."""

from __future__ import annotations

import asyncio
import math

from restante import errors
from restante_gateways.core.retry import OutcomeUnknown
from restante_gateways.net.bounds import TimedOut
from restante_gateways.smtp import replies
from restante_gateways.smtp.channel import Channel
from restante_gateways.smtp.core import Acceptance
from restante_gateways.smtp.data import DataFault, DataScanner
from restante_gateways.smtp.errors import REPLIES, failure_reply
from restante_gateways.smtp.replies import Reply, SessionOver
from restante_gateways.smtp.settings import SessionSettings
from restante_gateways.smtp.waiting import WaitingTime
from restante_mail.header.trace import HopCounter

FAULTS = {
    DataFault.BARE_LINE_END: Reply(550, "5.5.2", "The message has a bare CR or LF"),  # RFC 5321 2.3.8
    DataFault.NUL: Reply(550, "5.6.0", "The message has a NUL octet"),
    DataFault.LINE_TOO_LONG: Reply(550, "5.6.0", "The message has a line that is too long"),
    DataFault.TOO_BIG: replies.MESSAGE_TOO_BIG,  # RFC 1870 6.3
}


async def receive(channel: Channel, acceptance: Acceptance, settings: SessionSettings) -> Reply:
    """Read the content to its end; return the reply to it.

    Raises SessionOver if the content does not end, arrives too slowly, or its outcome is unknown.
    """
    return await _Reception(channel, acceptance, settings).run()


class _Reception:
    """The reception of one content. A refused content is still read to its end: the reply must wait for the end, and
    the next command follows it."""

    def __init__(self, channel: Channel, acceptance: Acceptance, settings: SessionSettings) -> None:
        self._channel, self._acceptance, self._settings = channel, acceptance, settings
        self._scanner = DataScanner(settings.max_message_octets, settings.max_content_line_octets)
        self._hops = HopCounter()
        self._failure: Reply | None = None

    async def run(self) -> Reply:
        """Read to the end of the content; return the reply to it."""
        settled = False
        try:
            await self._read_to_the_end()
            if self._failure is None:
                settled = True
                return await self._commit()
            return self._failure
        finally:
            if not settled:
                await self._acceptance.abandon()

    async def _read_to_the_end(self) -> None:
        channel, scanner, settings = self._channel, self._scanner, self._settings
        time = asyncio.get_running_loop().time
        last = time() + settings.max_data_seconds
        rate = settings.data_octets_per_second
        waiting = WaitingTime(settings.data_seconds if rate else math.inf)
        waited_seconds = octets = 0.0
        chunk = channel.take_rest()  # content sent before the 354
        while True:
            if chunk:
                content = scanner.feed(chunk)
                if scanner.fault is not None and self._failure is None:
                    self._failure = FAULTS[scanner.fault]
                if content and self._failure is None:
                    await self._pass_on(content)
                if scanner.finished:
                    channel.put_back(scanner.rest)
                    break
                if scanner.discarded_octets > settings.max_message_octets:
                    raise SessionOver(self._failure)  # it may never end
            now = time()
            try:
                until = min(now + settings.data_timeout_seconds, now + waiting.left_seconds, last)
                chunk = await channel.read(until, interruptible=False)
            except TimedOut:
                raise SessionOver(replies.TOO_SLOW) from None
            seconds = time() - now
            waited_seconds, octets = waited_seconds + seconds, octets + len(chunk)
            waiting.spend(seconds)
            waiting.earn(len(chunk) / (rate or 1))
        # The session's waiting time is charged only for the part beyond the minimum rate, so that the refusal of a
        # large content leaves the client time to go on. An accepted message resets the time.
        channel.waiting.spend(max(0.0, waited_seconds - octets / rate) if rate else 0.0)

    async def _pass_on(self, content: bytes) -> None:
        self._hops.feed(content)
        if self._hops.hops > self._settings.max_hops:
            self._failure = REPLIES[errors.MailLoop]
            return
        try:
            await self._acceptance.feed(content)
        except Exception as error:  # noqa: BLE001 - the reply follows the end of the content
            self._failure = failure_reply(error)

    async def _commit(self) -> Reply:
        try:
            name = await self._acceptance.commit()
        except OutcomeUnknown:
            raise SessionOver(None) from None
        except Exception as error:  # noqa: BLE001 - an internal failure gets a temporary reply
            return failure_reply(error)
        return Reply(250, "2.6.0", f"Message accepted as {name}")
