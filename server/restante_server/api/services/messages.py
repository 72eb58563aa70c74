"""MessageService: see protos/restante/v1/message.proto. Queries are in search.py, additions in append.py,
recoverable messages in recoverable.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from restante.errors import CursorInvalid, InvalidArgument, ResultTooLarge
from restante.v1 import message_pb2 as v1
from restante.v1 import methods
from restante.v1.message_pb2 import MessageSet
from restante.v1.types_pb2 import CommitToken, FolderChanges
from restante_server.api.engine.access import MAIL_SESSION, READ_SESSION
from restante_server.api.engine.call import Call, FindThenWrite, OneWrite, ShortRead
from restante_server.api.engine.registry import Decided, Handlers
from restante_server.api.engine.writes import HandlerWrite
from restante_server.api.services import convert, message_rows, message_shapes, sets
from restante_server.api.services.message_rows import Ask, Batch, Rest
from restante_server.api.services.message_shapes import Shape
from restante_server.api.services.section_octets import Source, decoded_total, pieces
from restante_server.api.services.violations import collected
from restante_server.directory.rights import Place
from restante_server.store import changes, flags, folders, keywords, mailboxes, removal, transfer, transfer_between
from restante_server.store.changes import FolderDelta
from restante_server.store.flags import FlagChange
from restante_server.store.messages import ALL_FLAGS
from restante_server.store.removal import Mode
from restante_server.store.selection import FLAG_SEEN

handlers = Handlers()

RESULT_OCTETS = 512 << 10  # of BatchGetMessages; Execute allows less
OPERATIONS: frozenset[int] = frozenset(FlagChange)
MODES: frozenset[int] = frozenset(Mode)


def _asked(
    call: Call, request: v1.BatchGetMessagesRequest | v1.StreamMessagesRequest
) -> tuple[Ask, sets.Chosen | sets.Pending]:
    """The wanted columns, and messages if no restriction must be evaluated for them."""
    since = request.changed_since if request.HasField("changed_since") else None
    chosen: sets.Chosen | sets.Pending = sets.NOTHING
    claim = call.claim(request.mailbox_id)
    ask = Ask(claim, sets.NOTHING.selection, message_shapes.NOTHING, since)
    with collected() as bad:
        with bad.noting("messages"):
            chosen = sets.read(call, claim, request.messages, removed=request.include_removed)
        if isinstance(request, v1.BatchGetMessagesRequest):
            apart = not (request.mark_seen and request.include_removed)
            bad.require(apart, "include_removed", "must not be set together with mark_seen")
        with bad.noting("sections"):
            ask = replace(ask, shape=Shape.of(request.columns, request.sections))
    return (ask.among(chosen.selection), chosen) if isinstance(chosen, sets.Chosen) else (ask, chosen)


async def _ask(call: Call, request: v1.BatchGetMessagesRequest | v1.StreamMessagesRequest) -> tuple[Ask, sets.Chosen]:
    """The wanted columns and messages. A restriction is evaluated here. Raises as scans.matches."""
    ask, chosen = _asked(call, request)
    if isinstance(chosen, sets.Chosen):
        return ask, chosen
    evaluated = await chosen()
    return ask.among(evaluated.selection), evaluated


# --- Reading --------------------------------------------------------------------------------------------------------


@handlers.decided(methods.BATCH_GET_MESSAGES, rule=READ_SESSION, reads=lambda request: not request.mark_seen)
def batch_get_messages(call: Call, request: v1.BatchGetMessagesRequest) -> Decided:
    ask, chosen = _asked(call, request)
    if request.mark_seen:
        MAIL_SESSION(call.caller)
        if isinstance(chosen, sets.Chosen):
            return OneWrite(_marking(call, request, ask, chosen))
        return FindThenWrite(chosen, partial(_mark_and_get, call, request, ask))
    if isinstance(chosen, sets.Chosen) and ask.is_short:
        return ShortRead(partial(_batch, call=call, ask=ask))
    return partial(_get_batch, call, ask, chosen)


async def _get_batch(call: Call, ask: Ask, chosen: sets.Chosen | sets.Pending) -> v1.BatchGetMessagesResponse:
    if not isinstance(chosen, sets.Chosen):
        ask = ask.among((await chosen()).selection)
    return await call.core.short_read(partial(_batch, call=call, ask=ask))


async def _mark_and_get(
    call: Call, request: v1.BatchGetMessagesRequest, ask: Ask, chosen: sets.Chosen
) -> v1.BatchGetMessagesResponse:
    return await call.core.db.write(_marking(call, request, ask, chosen), deadline=call.deadline)


def _marking(
    call: Call, request: v1.BatchGetMessagesRequest, ask: Ask, chosen: sets.Chosen
) -> HandlerWrite[v1.BatchGetMessagesResponse]:
    run = partial(_batch, call=call, ask=ask.among(chosen.selection), marked=chosen)
    return call.operation(request, run, claims=(ask.claim,), rows=chosen.rows)


def _batch(tx: Connection, *, call: Call, ask: Ask, marked: sets.Chosen | None = None) -> v1.BatchGetMessagesResponse:
    """The wanted rows of those messages that exist, of which those in `marked` get FLAG_SEEN first.

    Raises FolderNotFound, ResultTooLarge.
    """
    place = ask.claim.place(tx)
    if marked is not None:
        flags.change_flags(tx, place, marked.selection, FlagChange.ADD, FLAG_SEEN, if_change_number=marked.limit)
    directory, limit, decoded_octets = call.core.contents.directory, min(RESULT_OCTETS, call.result_octets), 0
    found: v1.MessageRows | None = None
    after: int | None = 0
    while after is not None:
        batch = message_rows.read_batch(tx, place, directory, ask, after)
        if found is None:
            found = batch.rows
        elif batch.count:
            message_rows.extend(found, batch.rows)
        decoded_octets += batch.decoded_octets
        if batch.rests or found.ByteSize() > limit or decoded_octets > message_rows.DECODED_OCTETS:
            raise ResultTooLarge(rpc="MessageService/StreamMessages", limit_octets=limit)
        after = batch.after
    return v1.BatchGetMessagesResponse(rows=found)


@handlers.stream("MessageService", "StreamMessages", rule=READ_SESSION)
async def stream_messages(call: Call, request: v1.StreamMessagesRequest) -> AsyncIterator[v1.StreamMessagesResponse]:
    """See MessageService.StreamMessages. No read is open while the client takes a response."""
    if request.HasField("min_commit"):
        await call.reach(request.min_commit)
    ask, chosen = await _ask(call, request)
    below = chosen.below  # for the first batch
    directory = call.core.contents.directory
    after: int | None = 0
    count: int | None = None
    while after is not None:
        batch: Batch = await call.core.db.read(message_rows.next_batch, directory, ask, after, count)
        rests = [await _measured(call, ask, batch.rows, rest) for rest in batch.rests]
        if batch.count:
            count = batch.count
            batch.response.matching_below, below = below, 0
            yield batch.response
        for rest in rests:
            async for response in _remainder(call, ask, rest):
                yield response
        after = batch.after


async def _measured(call: Call, ask: Ask, rows: v1.MessageRows, rest: Rest) -> Rest:
    """A rest with its total, which is also set in the cell of the batch's last message."""
    if rest.total is not None:
        return rest
    total = await decoded_total(call, _source(ask, rest))
    rows.sections[rest.section].total_octets[-1] = total
    return replace(rest, total=total)


async def _remainder(call: Call, ask: Ask, rest: Rest) -> AsyncIterator[v1.StreamMessagesResponse]:
    """The missing octets of a cut cell, in order."""
    done = rest.done
    async for octets in pieces(call, _source(ask, rest).behind(done, rest.total or 0)):
        yield v1.StreamMessagesResponse(
            rest=v1.SectionRest(
                message_id=rest.message_id, section_index=rest.section, offset_octets=done, octets=octets
            )
        )
        done += len(octets)


def _source(ask: Ask, rest: Rest) -> Source:
    return Source(ask.claim.at(0), rest.message_id, ask.sections[rest.section], removed=True)


# --- Changing -------------------------------------------------------------------------------------------------------


def _changes(tx: Connection, place: Place, messages: MessageSet, asked: bool, since: int) -> FolderChanges | None:
    """A folder's changes above a number; None if the request does not want them or they are too large or too old."""
    if not asked:
        return None
    if not sets.folder_id(messages):
        raise InvalidArgument(field="changes_since", problem="needs messages of one folder")
    try:
        delta = changes.folder_changes(tx, place, since, most=changes.MOST_ANSWERED)
    except (ResultTooLarge, CursorInvalid):
        return None
    return _noted(tx, place, delta)


def _noted(tx: Connection, place: Place, delta: FolderDelta) -> FolderChanges:
    """The changes for an answer, which the watchers' event has too."""
    changes.note_deltas(tx, [(place, delta)])
    changes.response_covers(tx, place)
    return convert.folder_changes(delta)


def _limit(request: v1.UpdateMessagesRequest | v1.MoveMessagesRequest | v1.DeleteMessagesRequest) -> int | None:
    return request.if_change_number if request.HasField("if_change_number") else None


def _target(
    tx: Connection, call: Call, source: Place, request: v1.CopyMessagesRequest | v1.MoveMessagesRequest
) -> Place:
    """The folder that messages go to, in their own or in another mailbox. Raises MailboxNotFound, FolderNotFound."""
    within = call.place(tx, request.target_mailbox_id) if request.target_mailbox_id else source
    return folders.named(tx, within, request.target_folder_id, request.target_path)


def _commit(call: Call, place: Place, change_number: int | None) -> CommitToken | None:
    return convert.commit_token(call, place.mailbox_id, change_number) if change_number else None


def _expected(request: v1.CopyMessagesRequest | v1.MoveMessagesRequest) -> int | None:
    return request.if_message_count if request.HasField("if_message_count") else None


def _updated_messages(call: Call, request: v1.UpdateMessagesRequest) -> sets.Chosen | sets.Pending:
    chosen: sets.Chosen | sets.Pending = sets.NOTHING
    claim = call.claim(request.mailbox_id)
    with collected() as bad:
        with bad.noting("messages"):
            chosen = sets.read(call, claim, request.messages, limit=_limit(request))
        bad.require(request.operation in OPERATIONS, "operation", "must be a known value other than UNSPECIFIED")
        with bad.noting("flags"):
            convert.bounded_range(request.flags, 0, ALL_FLAGS, "flags")
        with bad.noting("keywords"):
            keywords.valid(request.keywords)
    return chosen


@handlers.write_found(
    methods.UPDATE_MESSAGES, rule=MAIL_SESSION, find=_updated_messages, rows=lambda chosen: chosen.rows
)
def update_messages(
    tx: Connection, call: Call, request: v1.UpdateMessagesRequest, chosen: sets.Chosen
) -> v1.UpdateMessagesResponse:
    place = call.place(tx, request.mailbox_id, chosen.selection.folder_id or 0)
    done = flags.change_flags(
        tx,
        place,
        chosen.selection,
        FlagChange(request.operation),
        request.flags,
        list(request.keywords),
        if_change_number=chosen.limit,
        changes_since=request.changes_since if request.HasField("changes_since") else None,
    )
    number = done.change_number or mailboxes.change_number(tx, place)
    if done.delta is not None:
        made: FolderChanges | None = _noted(tx, place, done.delta)
    else:
        # Of more messages found the changes would be too many most of the time, and reading them in vain.
        wanted = request.HasField("changes_since") and done.found <= changes.MOST_ANSWERED
        made = _changes(tx, place, request.messages, wanted, request.changes_since)
    return v1.UpdateMessagesResponse(
        commit=convert.commit_token(call, place.mailbox_id, number),
        modified_message_ids=convert.runs(done.left.message_ids),
        modified_uids=sets.uids(request.messages, done.left),
        changes=made,
        updated_count=done.found,
    )


def _copied_messages(call: Call, request: v1.CopyMessagesRequest) -> sets.Chosen | sets.Pending:
    return sets.read(call, call.claim(request.mailbox_id), request.messages)


@handlers.write_found(
    methods.COPY_MESSAGES, rule=MAIL_SESSION, find=_copied_messages, rows=lambda chosen: 2 * chosen.rows
)
def copy_messages(
    tx: Connection, call: Call, request: v1.CopyMessagesRequest, chosen: sets.Chosen
) -> v1.CopyMessagesResponse:
    place = call.place(tx, request.mailbox_id, chosen.selection.folder_id or 0)
    target = _target(tx, call, place, request)
    done = transfer.copy(tx, place, chosen.selection, target, _expected(request), if_change_number=chosen.limit)
    return v1.CopyMessagesResponse(
        source_message_ids=convert.runs(done.source.message_ids),
        target_message_ids=convert.id_ranges(done.target_ids),
        source_uids=sets.uids(request.messages, done.source),
        target_uids=convert.id_ranges(done.target_uids),
        target_uid_validity=done.uid_validity,
        commit=_commit(call, target, done.change_number),
        target_folder_id=target.folder_id,
        modified_message_ids=convert.runs(done.left.message_ids),
        modified_uids=sets.uids(request.messages, done.left),
    )


def _moved_messages(call: Call, request: v1.MoveMessagesRequest) -> sets.Chosen | sets.Pending:
    return sets.read(call, call.claim(request.mailbox_id), request.messages, limit=_limit(request))


@handlers.write_found(methods.MOVE_MESSAGES, rule=MAIL_SESSION, find=_moved_messages, rows=lambda chosen: chosen.rows)
def move_messages(
    tx: Connection, call: Call, request: v1.MoveMessagesRequest, chosen: sets.Chosen
) -> v1.MoveMessagesResponse:
    place = call.place(tx, request.mailbox_id, chosen.selection.folder_id or 0)
    target = _target(tx, call, place, request)
    move = transfer.move if target.mailbox_id == place.mailbox_id else transfer_between.move
    done = move(tx, place, chosen.selection, target, call.now, _expected(request), if_change_number=chosen.limit)
    return v1.MoveMessagesResponse(
        message_ids=convert.runs(done.source.message_ids),
        source_uids=sets.uids(request.messages, done.source),
        target_uids=convert.id_ranges(done.target_uids),
        target_uid_validity=done.uid_validity,
        commit=_commit(call, target, done.change_number),
        changes=_changes(tx, place, request.messages, request.HasField("changes_since"), request.changes_since),
        target_folder_id=target.folder_id,
        target_message_ids=convert.id_ranges(done.target_ids),
        source_commit=_commit(call, place, done.source_change_number),
        modified_message_ids=convert.runs(done.left.message_ids),
        modified_uids=sets.uids(request.messages, done.left),
    )


def _deleted_messages(call: Call, request: v1.DeleteMessagesRequest) -> sets.Chosen | sets.Pending:
    chosen: sets.Chosen | sets.Pending = sets.NOTHING
    claim = call.claim(request.mailbox_id)
    with collected() as bad:
        with bad.noting("messages"):
            only_deleted = request.only_flagged_deleted
            chosen = sets.read(call, claim, request.messages, only_deleted=only_deleted, limit=_limit(request))
        bad.require(request.mode in MODES, "mode", "must be a known value other than UNSPECIFIED")
    return chosen


@handlers.write_found(
    methods.DELETE_MESSAGES, rule=MAIL_SESSION, find=_deleted_messages, rows=lambda chosen: 2 * chosen.rows
)
def delete_messages(
    tx: Connection, call: Call, request: v1.DeleteMessagesRequest, chosen: sets.Chosen
) -> v1.DeleteMessagesResponse:
    place = call.place(tx, request.mailbox_id, chosen.selection.folder_id or 0)
    done = removal.remove(tx, place, chosen.selection, Mode(request.mode), call.now, if_change_number=chosen.limit)
    return v1.DeleteMessagesResponse(
        deleted_message_ids=convert.runs(done.messages.message_ids),
        deleted_uids=sets.uids(request.messages, done.messages),
        commit=_commit(call, place, done.change_number),
        changes=_changes(tx, place, request.messages, request.HasField("changes_since"), request.changes_since),
        modified_message_ids=convert.runs(done.left.message_ids),
        modified_uids=sets.uids(request.messages, done.left),
    )
