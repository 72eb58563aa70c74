"""The content of a message, streamed from the client to the core in bounded memory.

DATA frames it by a final dot (RFC 5321 4.1.1.4), BDAT by lengths (RFC 3030 2). The rest is the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence

from restante import errors
from restante_gateways.core.retry import OutcomeUnknown
from restante_gateways.smtp import replies
from restante_gateways.smtp.channel import Channel
from restante_gateways.smtp.chunks import Chunk
from restante_gateways.smtp.content import ContentFault, ContentScanner
from restante_gateways.smtp.core import Acceptance
from restante_gateways.smtp.data import DotFrame
from restante_gateways.smtp.errors import REPLIES, failure_reply, reply_to
from restante_gateways.smtp.pace import Pace
from restante_gateways.smtp.replies import Reply, SessionOver
from restante_gateways.smtp.settings import SessionSettings
from restante_mail.header.trace import HopCounter

FAULTS = {
    ContentFault.BARE_LINE_END: Reply(550, "5.5.2", "The message has a bare CR or LF"),  # RFC 5321 2.3.8
    ContentFault.NUL: Reply(550, "5.6.0", "The message has a NUL octet"),
    ContentFault.LINE_TOO_LONG: Reply(550, "5.6.0", "The message has a line that is too long"),
    ContentFault.TOO_BIG: replies.MESSAGE_TOO_BIG,  # RFC 1870 6.3
}


class Reception:
    """The reception of one content. A refused content is still read to its end: the reply must wait for the end, and
    the next command follows it.

    Its methods return the replies. They raise SessionOver if the content does not end, arrives too slowly, or its
    outcome is unknown.
    """

    def __init__(
        self, channel: Channel, acceptance: Acceptance, settings: SessionSettings, answers: Sequence[int] = (0,)
    ) -> None:
        """`answers` has the place of a recipient for each final reply: one by SMTP, one for each RCPT by LMTP."""
        self._channel, self._acceptance = channel, acceptance
        self._max_octets, self._max_hops = settings.max_message_octets, settings.max_hops
        self._pace = Pace(channel, settings)
        self._scanner = ContentScanner(settings.max_message_octets, settings.max_content_line_octets)
        self._hops = HopCounter()
        self._failure: Reply | None = None
        self._settled = False
        self._answers = answers

    async def data(self) -> list[Reply]:
        """Read the content to its final dot."""
        frame = DotFrame()
        octets = self._channel.take_rest()  # content sent before the 354
        while True:
            await self._take(frame.feed(octets))
            if frame.finished:
                break
            octets = await self._pace.read()
        self._channel.put_back(frame.rest)
        self._pace.charge()
        return await self._finish()

    async def chunk(self, chunk: Chunk) -> list[Reply]:
        """Read one chunk of the content. A failure is also the reply to all later chunks."""
        self._pace.check()
        left = chunk.size_octets
        while left:
            octets = await self._pace.read_up_to(left)
            left -= len(octets)
            await self._take(octets)
        self._pace.charge()
        if chunk.last:
            return await self._finish()
        if self._failure is not None:
            await self.abandon()
            return [self._failure]
        return [Reply(250, "2.0.0", f"{chunk.size_octets} octets received")]

    async def abandon(self) -> None:
        """Give up the content, unless its outcome is settled."""
        if not self._settled:
            self._settled = True
            await self._acceptance.abandon()

    async def _take(self, octets: bytes) -> None:
        scanner = self._scanner
        content = scanner.feed(octets)
        if scanner.fault is not None and self._failure is None:
            self._failure = FAULTS[scanner.fault]
        if content and self._failure is None:
            await self._pass_on(content)
        if scanner.discarded_octets > self._max_octets:
            raise SessionOver(self._failure)  # it may never end

    async def _pass_on(self, content: bytes) -> None:
        self._hops.feed(content)
        if self._hops.hops > self._max_hops:
            self._failure = REPLIES[errors.MailLoop]
            return
        try:
            await self._acceptance.feed(content)
        except Exception as error:  # noqa: BLE001 - the reply follows the end of the content
            self._failure = failure_reply(error)

    async def _finish(self) -> list[Reply]:
        self._scanner.finish()
        if self._scanner.fault is not None and self._failure is None:
            self._failure = FAULTS[self._scanner.fault]
        if self._failure is not None:
            await self.abandon()
            return [self._failure] * len(self._answers)
        self._settled = True
        try:
            accepted = await self._acceptance.commit()
        except OutcomeUnknown:
            raise SessionOver(None) from None
        except Exception as error:  # noqa: BLE001 - an internal failure gets a temporary reply
            return [failure_reply(error)] * len(self._answers)
        success = Reply(250, "2.6.0", f"Message accepted as {accepted.name}")
        if not accepted.refusals:
            return [success] * len(self._answers)
        verdicts = [success if error is None else reply_to(error) for error in accepted.refusals]
        return [verdicts[place] for place in self._answers]


async def discard(channel: Channel, chunk: Chunk, settings: SessionSettings, refusal: Reply) -> None:
    """Read a chunk that cannot be accepted, as RFC 3030 2 requires before its reply.

    Raises SessionOver with `refusal` if the chunk is larger than a message may be, or if it arrives too slowly.
    """
    pace, left = Pace(channel, settings), min(chunk.size_octets, settings.max_message_octets)
    while left:
        left -= len(await pace.read_up_to(left))
    pace.charge()
    if chunk.size_octets > settings.max_message_octets:
        raise SessionOver(refusal)
