"""Carrying APPEND out: the message goes to the core as it comes, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from restante import errors
from restante.v1 import message_pb2, methods
from restante_gateways.imap.commands.append import Append
from restante_gateways.imap.errors import Refusal, missing_target
from restante_gateways.imap.grammar.framing import CommandRest, LiteralChunk, LiteralStart, TooLong
from restante_gateways.imap.grammar.parser import CutShort, ParseError, Parser, Refused
from restante_gateways.imap.grammar.responses import BAD, OK, Status, append_uid, continuation
from restante_gateways.imap.table import BadCommand, Declined, Entry

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session

_INLINE_OCTETS = 512 << 10  # what an operation may carry; more is uploaded
_UNASKED_OCTETS = 64 << 10  # of a client that waits for nothing, so little is taken before the folder is known


def append_of(tag: bytes, entry: Entry, p: Parser) -> Append | Declined | None:
    """The APPEND whose message this literal is; None for any other literal, such as a name's.

    A command that is wrong is answered now, before the client sends its message in vain. Raises BadCommand.
    """
    if entry.name != "APPEND":
        return None
    try:
        return Append.parse(p)
    except CutShort:
        return None
    except Refused as reason:
        return Declined(entry, reason)
    except ParseError as error:
        raise BadCommand(tag, str(error)) from error


async def append(s: Session, command: Append | Declined, literal: LiteralStart) -> Status:
    """Take the message and add it to the folder. Whatever happens, the literal is read or refused whole."""
    if isinstance(command, Declined):
        s.reader.refuse()
        return await command.run(s)
    try:
        folder_id, path = s.target(command.name)
        if path and (literal.synchronising or literal.size_octets > _UNASKED_OCTETS):
            await s.expect_target(command.name)  # before the client sends what it would send in vain
    except (Refusal, errors.RestanteError):
        s.reader.refuse()
        raise
    s.reader.stream()
    if literal.synchronising:
        s.write(continuation(b"go on"))
    request = message_pb2.AppendMessageRequest(
        folder_id=folder_id,
        path=path,
        flags=int(command.flags.system),
        keywords=command.flags.keywords,
        request_id=s.request_id(),
    )
    if command.received_at is not None:
        request.received_at.FromDatetime(command.received_at)
        offset = command.received_at.utcoffset()
        assert offset is not None
        request.received_offset_minutes = int(offset.total_seconds()) // 60
    if literal.size_octets <= _INLINE_OCTETS:
        request.content = b"".join([chunk async for chunk in _chunks(s)])
    else:
        try:
            request.upload_id = await _upload(s)
        except errors.RestanteError:
            await _rest(s)
            raise
    if (await _rest(s)).octets:
        return BAD("One message at a time.")  # MULTIAPPEND is not offered
    with missing_target():
        added = await s.call(methods.APPEND_MESSAGE, request)
    await s.added(added.folder_id, added, command.flags)
    return OK("Appended.", append_uid(added.uid_validity, [(added.uid, added.uid)]))


async def _chunks(s: Session) -> AsyncIterator[bytes]:
    """The literal's octets as they come."""
    while True:
        event = await s.next_event_amid_literal()
        assert isinstance(event, LiteralChunk)
        yield event.octets
        if event.last:
            return


async def _upload(s: Session) -> bytes:
    """Stream the literal to the core. If that fails, what is left of it is still read, before the error goes on."""
    upload, failure = s.upload(), None
    try:
        async for chunk in _chunks(s):
            if failure is None:
                try:
                    await upload.feed(chunk)
                except errors.RestanteError as error:
                    failure = error
        if failure is not None:
            raise failure
        return await upload.finish()
    finally:
        await upload.abandon()


async def _rest(s: Session) -> CommandRest:
    event = await s.next_event_amid_literal()
    if isinstance(event, TooLong):
        raise Refusal(BAD("Line too long."))
    assert isinstance(event, CommandRest)
    return event
