"""APPEND: add a message to a folder (RFC 3501 6.3.11; APPENDUID RFC 4315 3).

The gateway passes the message to the core as it arrives, in bounded memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from restante import errors
from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import ANY, LOGGED_IN, command, extension
from restante_gateways.imap.core.messages import INLINE_OCTETS
from restante_gateways.imap.errors import Refusal, missing_target
from restante_gateways.imap.grammar.flags import Flags
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import BAD, NO, OK, Status, append_uid
from restante_gateways.imap.values import FolderPath, NewMessage, Target

_MESSAGE = re.compile(rb"\{([0-9]{1,20})(\+?)\}\Z")
_UNASKED_OCTETS = 64 << 10  # largest non-synchronising literal accepted without checking the folder first

extension("LITERAL+", offered=ANY)  # RFC 7888


@command("APPEND", state=LOGGED_IN, takes_literal=True)
@dataclass(frozen=True)
class Append:
    """An APPEND up to its message literal. A given date keeps its zone; without a date the message is received now."""

    name: str
    message: NewMessage
    size_octets: int
    synchronising: bool  # the client waits for a continuation request before it sends the message (RFC 3501 4.3)

    @classmethod
    def parse(cls, p: Parser) -> Append:
        name = p.sp().mailbox_name()
        p.sp()
        flags = Flags()
        if p.sees(b"("):
            flags = p.flag_list()
            p.sp()
        received_at = None
        if p.sees(b'"'):
            received_at = p.date_time()
            p.sp()
        literal = p.match(_MESSAGE, "literal")
        return cls(name, NewMessage(flags, received_at), int(literal[1]), not literal[2])

    async def run(self, s: Session) -> Status:
        """Add the message. In every case, read or refuse the whole literal."""
        try:
            target = await self._target(s)
        except (Refusal, errors.RestanteError):
            s.client.refuse_literal()
            raise
        s.client.take_literal()
        content, upload_id = b"", b""
        if self.size_octets <= INLINE_OCTETS:
            content = b"".join([octets async for octets in s.client.literal()])
        else:
            upload_id = await _upload(s)
        if await s.client.rest_of_command():
            return BAD("APPEND accepts one message (no MULTIAPPEND).")
        if not self.size_octets:
            return NO("The message is empty.", b"CANNOT")
        with missing_target():
            added = await s.account.messages.append(target, self.message, content, upload_id)
        if s.selected is not None:
            await s.selected.note_append(added, self.message.flags)
        return OK("APPEND completed.", append_uid(added.uid_validity, [(added.uid, added.uid)]))

    async def _target(self, s: Session) -> Target:
        """The target folder. Check that it exists if the message is large, or if the client has not sent it yet."""
        target = s.account.target(self.name)
        if isinstance(target, FolderPath) and (self.synchronising or self.size_octets > _UNASKED_OCTETS):
            await s.account.expect_target(self.name)
        return target


async def _upload(s: Session) -> bytes:
    """Stream the literal to the core; return the upload's id. On a failure, read the rest of the command, then raise.

    Raises restante.errors, ConnectionLost.
    """
    upload, failure = s.account.messages.upload(), None
    try:
        async for octets in s.client.literal():
            if failure is None:
                try:
                    await upload.feed(octets)
                except errors.RestanteError as error:
                    failure = error
        if failure is None:
            return await upload.finish()
    except errors.RestanteError as error:
        failure = error
    finally:
        await upload.abandon()
    await s.client.rest_of_command()
    raise failure
