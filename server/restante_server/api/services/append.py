"""AppendMessage and CreateDraft: the core stages the octets first, then places the message in one write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.errors import FolderNotFound, RestanteError, UploadNotFound
from restante.v1 import message_pb2 as v1
from restante.v1 import methods
from restante.v1.content_pb2 import UploadKind
from restante.v1.types_pb2 import Flag
from restante_server.api.engine.access import API_SESSION, MAIL_SESSION
from restante_server.api.engine.call import Call, OneWrite
from restante_server.api.engine.registry import Decided, Handlers
from restante_server.api.engine.writes import once_of
from restante_server.api.services import convert, drafts
from restante_server.api.services.violations import collected
from restante_server.directory.rights import Claim, Place
from restante_server.store import changes, contents, folders, keywords, messages, requests, uploads
from restante_server.store.contents import NewContent, Stored
from restante_server.store.folders import Role
from restante_server.store.listing import Listing, listing_of
from restante_server.store.messages import NewMessage, Placed, Placement
from restante_server.store.staging import Form, Staged

handlers = Handlers()

R = TypeVar("R", bound=Message)

INLINE_OCTETS = 512 << 10
ROWS = 6  # content, octets, message, listing, folder, mailbox
DRAFT_FLAGS = Flag.FLAG_SEEN | Flag.FLAG_DRAFT


@handlers.decided(methods.APPEND_MESSAGE, rule=MAIL_SESSION)
def append_message(call: Call, request: v1.AppendMessageRequest) -> Decided:
    with collected() as bad:
        one = bool(request.content) != bool(request.upload_id)
        bad.require(one, "content", "exactly one of content and upload_id must be given")
        bad.require(
            len(request.content) <= INLINE_OCTETS,
            "content",
            "must have at most 512 KiB; upload a larger message and name upload_id",
        )
        with bad.noting("flags"):
            convert.bounded_range(request.flags, 0, messages.ALL_FLAGS, "flags")
        with bad.noting("keywords"):
            keywords.valid(request.keywords)
        with bad.noting("received_at"):
            _received(call, request)
        with bad.noting("received_offset_minutes"):
            convert.bounded_range(request.received_offset_minutes, -1_439, 1_439, "received_offset_minutes")
    if request.upload_id:
        return partial(_append_upload, call, request)
    small = call.core.contents.stage_small(request.content, Form.MAKE_CANONICAL)
    return partial(_append_large, call, request) if small is None else OneWrite(_append(call, request, small))


def _append(call: Call, request: v1.AppendMessageRequest, small: Staged) -> Append:
    assert small.facts is not None  # it was staged as a message
    assert small.new is not None  # it has no file
    claim = call.claim(request.mailbox_id)
    once = once_of(request, call.caller.actor, (claim,), call.now, call.sent)
    return Append(call, request, claim, once, small.new, small.line_ends_changed, listing_of(small.facts))


@dataclass(frozen=True, slots=True)
class Append:
    """AppendMessage of a content that has no file. See db.operation.Mergeable."""

    call: Call
    request: v1.AppendMessageRequest
    claim: Claim
    once: requests.Request
    content: NewContent
    line_ends_changed: bool
    listing: Listing

    rows: ClassVar[int] = ROWS
    one_a_mailbox: ClassVar[bool] = True  # each answer has the folder's change number before its own message

    @property
    def mailboxes(self) -> frozenset[int]:
        """See Operation."""
        return frozenset((self.claim.mailbox_id,))

    @property
    def octets(self) -> int:
        """See Operation."""
        return self.content.size_octets

    def run(self, tx: Connection) -> v1.AppendMessageResponse:
        """See Operation."""
        (outcome,) = self.run_many(tx, [self])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @classmethod
    def run_many(cls, tx: Connection, appends: Sequence[Append]) -> list[v1.AppendMessageResponse | Exception]:
        """See Mergeable. Raises QuotaExceeded, LimitExceeded."""
        asked = requests.sort(tx, [append.once for append in appends])  # a repeat has the mailbox of its first
        outcomes: dict[int, v1.AppendMessageResponse | Exception] = {}
        places: dict[int, Place] = {}
        for at, append in enumerate(appends):
            try:
                if (kept := asked.known.get(at)) is not None:
                    outcomes[at] = append._first_answer(tx, kept)
                else:
                    places[at] = _folder(tx, append.call, append.request)
            except RestanteError as error:
                outcomes[at] = error
        fresh = [appends[at] for at in places]
        if fresh:
            made = _append_all(tx, fresh, list(places.values()))
            outcomes.update(zip(places, made, strict=True))
        return [outcomes[at] for at in range(len(appends))]

    def _first_answer(self, tx: Connection, kept: bytes | RestanteError) -> v1.AppendMessageResponse:
        """The answer to a repetition. A caller that has lost the rights gets none."""
        if isinstance(kept, RestanteError):
            raise kept
        self.claim.place(tx)
        return v1.AppendMessageResponse.FromString(kept)


def _append_all(tx: Connection, fresh: Sequence[Append], places: Sequence[Place]) -> list[v1.AppendMessageResponse]:
    """Place the messages of new requests in these folders, and keep the answers."""
    content_ids = contents.insert_many(tx, [append.content for append in fresh], fresh[-1].call.now)
    new = [
        NewMessage(
            content_id,
            append.content.size_octets,
            append.listing,
            content_is_new=True,
            **_given(append.call, append.request),
        )
        for append, content_id in zip(fresh, content_ids, strict=True)
    ]
    placed = messages.add_all(tx, [Placement(place, message) for place, message in zip(places, new, strict=True)])
    made = [
        _response(tx, append.call, place, message, one, append.line_ends_changed)
        for append, place, message, one in zip(fresh, places, new, placed, strict=True)
    ]
    answers = [(append.once, response.SerializeToString()) for append, response in zip(fresh, made, strict=True)]
    requests.keep(tx, answers, is_locked=True)
    return made


async def _append_large(call: Call, request: v1.AppendMessageRequest) -> v1.AppendMessageResponse:
    staged = await call.core.contents.stage(request.content, Form.MAKE_CANONICAL)
    assert staged.facts is not None  # it was staged as a message
    facts = listing_of(staged.facts)

    def run(tx: Connection) -> v1.AppendMessageResponse:
        new = NewMessage(staged.insert(tx, call.now), staged.size_octets, facts, **_given(call, request))
        return _appended(tx, call, request, new, staged.line_ends_changed)

    return await _place(call, request, staged, run, call.claim(request.mailbox_id))


async def _append_upload(call: Call, request: v1.AppendMessageRequest) -> v1.AppendMessageResponse:
    """Append an uploaded message and use up the upload in the same write.

    If the upload is gone, the write still returns the remembered response of a first call with the same request id.
    """
    account_id = call.caller.account_id
    try:
        stored, changed = await call.core.db.read(_uploaded, request.upload_id, account_id, call.now)
    except UploadNotFound as error:
        gone = error

        def refuse(tx: Connection) -> v1.AppendMessageResponse:
            raise gone

        return await call.write(request, refuse, claims=(call.claim(request.mailbox_id),))
    facts = listing_of(await call.core.contents.facts(stored))

    def run(tx: Connection) -> v1.AppendMessageResponse:
        content_id = uploads.take(tx, request.upload_id, account_id, call.now)
        contents.require_live(tx, content_id)
        new = NewMessage(content_id, stored.size_octets, facts, **_given(call, request))
        return _appended(tx, call, request, new, changed)

    held = frozenset({stored.content_id})
    return await call.write(request, run, claims=(call.claim(request.mailbox_id),), rows=ROWS, contents=held)


def _uploaded(tx: Connection, upload_id: bytes, account_id: int, now: int) -> tuple[Stored, bool]:
    upload = uploads.get(tx, upload_id, account_id, now)
    if upload.content_id is None or upload.kind != UploadKind.UPLOAD_KIND_MESSAGE:
        raise UploadNotFound
    return contents.load(tx, [upload.content_id])[upload.content_id], upload.line_ends_changed


def _received(call: Call, request: v1.AppendMessageRequest) -> int:
    return convert.microseconds(request.received_at, "received_at") if request.HasField("received_at") else call.now


def _given(call: Call, request: v1.AppendMessageRequest) -> dict[str, Any]:
    return {
        "flags": request.flags,
        "keywords": tuple(request.keywords),
        "received_at": _received(call, request),
        "received_offset_minutes": request.received_offset_minutes,
    }


def _appended(
    tx: Connection, call: Call, request: v1.AppendMessageRequest, new: NewMessage, line_ends_changed: bool
) -> v1.AppendMessageResponse:
    place = _folder(tx, call, request)
    (placed,) = messages.add(tx, place, [new])
    return _response(tx, call, place, new, placed, line_ends_changed)


def _folder(tx: Connection, call: Call, request: v1.AppendMessageRequest) -> Place:
    within = call.place(tx, request.mailbox_id, 0 if request.path else request.folder_id)
    return folders.named(tx, within, request.folder_id, request.path)


def _response(
    tx: Connection, call: Call, place: Place, new: NewMessage, placed: Placed, line_ends_changed: bool
) -> v1.AppendMessageResponse:
    changes.response_covers(tx, place)
    return v1.AppendMessageResponse(
        message_id=placed.message_id,
        uid_validity=placed.uid_validity,
        uid=placed.uid,
        size_octets=new.size_octets,
        line_ends_changed=line_ends_changed,
        folder_id=place.folder_id,
        commit=convert.commit_token(call, place.mailbox_id, placed.change_number),
        since_change_number=placed.since,
    )


@handlers.direct(methods.CREATE_DRAFT, rule=API_SESSION)
async def create_draft(call: Call, request: v1.CreateDraftRequest) -> v1.CreateDraftResponse:
    claim = call.claim(request.mailbox_id, request.folder_id)
    try:
        octets = await drafts.write_message(call, request.draft)
    except UploadNotFound as error:
        gone = error

        def refuse(tx: Connection) -> v1.CreateDraftResponse:
            raise gone

        return await call.write(request, refuse, claims=(claim,))
    staged = await call.core.contents.stage(octets, Form.MAKE_CANONICAL)
    assert staged.facts is not None  # it was staged as a message
    facts = listing_of(staged.facts)

    def run(tx: Connection) -> v1.CreateDraftResponse:
        place = claim.place(tx)
        if not place.folder_id:
            drafts_folder = folders.with_role(tx, place, Role.DRAFTS)
            if drafts_folder is None:
                raise FolderNotFound
            place = drafts_folder
        for upload_id in drafts.upload_ids(request.draft):
            drafts.use_up(tx, upload_id, call)
        content_id = staged.insert(tx, call.now)
        new = NewMessage(content_id, staged.size_octets, facts, flags=DRAFT_FLAGS, received_at=call.now)
        (placed,) = messages.add(tx, place, [new])
        return v1.CreateDraftResponse(
            message_id=placed.message_id,
            uid_validity=placed.uid_validity,
            uid=placed.uid,
            size_octets=new.size_octets,
            commit=convert.commit_token(call, place.mailbox_id, placed.change_number),
        )

    return await _place(call, request, staged, run, claim)


async def _place(call: Call, request: Message, staged: Staged, run: Callable[[Connection], R], claim: Claim) -> R:
    """Run the write that places a staged content. If it fails or is a repeat, the staged content is dropped."""
    ran = False

    def place(tx: Connection) -> R:
        nonlocal ran
        ran = True
        return run(tx)

    try:
        response = await call.write(request, place, claims=(claim,), rows=ROWS, octets=staged.octets)
    except BaseException as error:
        call.core.contents.forget(staged, after=error)
        raise
    if not ran:
        call.core.contents.forget(staged)
    return response
