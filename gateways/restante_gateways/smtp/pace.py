"""The time limits of a content on its way in."""

from __future__ import annotations

import asyncio
import math

from restante_gateways.net.bounds import TimedOut
from restante_gateways.smtp import replies
from restante_gateways.smtp.channel import Channel
from restante_gateways.smtp.replies import SessionOver
from restante_gateways.smtp.settings import SessionSettings
from restante_gateways.smtp.waiting import WaitingTime


class Pace:
    """Reads the octets of one content, which must keep up the minimum rate and end within the longest time."""

    def __init__(self, channel: Channel, settings: SessionSettings) -> None:
        self._channel, self._pause_seconds = channel, settings.data_timeout_seconds
        self._time = asyncio.get_running_loop().time
        self._until = self._time() + settings.max_data_seconds
        self._rate = settings.data_octets_per_second
        self._waiting = WaitingTime(settings.data_seconds if self._rate else math.inf)
        self._waited_seconds = self._octets = 0.0  # not charged yet

    def check(self) -> None:
        """Raise SessionOver after the longest time, also if the client never makes the server wait."""
        if self._time() >= self._until:
            raise SessionOver(replies.TOO_SLOW)

    async def read(self) -> bytes:
        """The next octets, at least one. Raises SessionOver if they arrive too slowly, or not at all."""
        now = self._time()
        try:
            until = min(now + self._pause_seconds, now + self._waiting.left_seconds, self._until)
            octets = await self._channel.read(until, interruptible=False)
        except TimedOut:
            raise SessionOver(replies.TOO_SLOW) from None
        seconds = self._time() - now
        self._waited_seconds, self._octets = self._waited_seconds + seconds, self._octets + len(octets)
        self._waiting.spend(seconds)
        self._waiting.earn(len(octets) / (self._rate or 1))
        return octets

    async def read_up_to(self, limit: int) -> bytes:
        """The next octets, at least one and at most `limit`. Leaves the others to the command line reader."""
        octets = self._channel.take(limit) or await self.read()
        if len(octets) > limit:
            self._channel.put_back(octets[limit:])
            octets = octets[:limit]
        return octets

    def charge(self) -> None:
        """Charge the session's waiting time for the part beyond the minimum rate.

        The refusal of a large content leaves the client time to go on. An accepted message resets the time.
        """
        if self._rate:
            self._channel.waiting.spend(max(0.0, self._waited_seconds - self._octets / self._rate))
        self._waited_seconds = self._octets = 0.0
