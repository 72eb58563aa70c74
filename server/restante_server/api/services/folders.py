"""FolderService: see protos/restante/v1/folder.proto."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

from sqlalchemy import Connection

from restante.errors import EpochChanged, FolderNotFound, InvalidArgument, RestanteError, to_status
from restante.v1 import folder_pb2 as v1
from restante.v1 import methods
from restante.v1.session_pb2 import Scope
from restante_server.api.engine.access import MAIL_SESSION, READ_SESSION, identities, named
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Decided, Handlers, every, few
from restante_server.api.services import convert, pages
from restante_server.directory import rights
from restante_server.directory.rights import Claim
from restante_server.store import changed, changes, folders, mailboxes, removal, rows, subscriptions
from restante_server.store.changed import Behind
from restante_server.store.changes import FolderDelta, FolderKey
from restante_server.store.folder_names import SEPARATOR
from restante_server.store.folders import FolderFacts

handlers = Handlers()

ROWS_AT_ONCE = 6_000  # in one response: below 256 KiB even with the largest numbers, without keywords
MOST_FOLLOWED = 256  # folders of one GetChangeNumbers; a response that refuses all of them still fits a result
FOLLOWERS = identities("imap", or_sessions=(Scope.SCOPE_API, Scope.SCOPE_IMAP))
KEYWORD_OCTETS = 64 << 10  # of the keyword table of one message


@handlers.read(methods.LIST_FOLDERS, rule=READ_SESSION)
def list_folders(tx: Connection, call: Call, request: v1.ListFoldersRequest) -> v1.ListFoldersResponse:
    page = pages.Page.asked("folders", request, call.result_octets, 2)
    tree = folders.tree(tx, call.place(tx, request.mailbox_id))
    if all(page.key):
        tree = tree[bisect_right(tree, tuple(map(pages.number, page.key)), key=_level) :]
    answer = v1.ListFoldersResponse()
    found = tree[: page.most]
    return page.fill(answer, answer.folders, found, convert.folder, lambda last: tuple(map(str, _level(last))))


def _level(facts: FolderFacts) -> tuple[int, int]:
    """The place of a folder in its list, which no other folder's coming or going changes."""
    return len(facts.path), facts.folder_id


@handlers.read(methods.GET_FOLDER, rule=READ_SESSION, short=few)
def get_folder(tx: Connection, call: Call, request: v1.GetFolderRequest) -> v1.GetFolderResponse:
    if bool(request.folder_id) + bool(request.path) + bool(request.role) != 1:
        raise InvalidArgument(field="folder_id", problem="exactly one of folder_id, path and role must be given")
    within = call.place(tx, request.mailbox_id, request.folder_id)
    if request.role:
        place = folders.with_role(tx, within, request.role)
    else:
        place = folders.named(tx, within, request.folder_id, request.path)
    if place is None:
        raise FolderNotFound
    return v1.GetFolderResponse(folder=convert.folder(folders.get(tx, place)))


@handlers.write(methods.CREATE_FOLDER, rule=MAIL_SESSION)
def create_folder(tx: Connection, call: Call, request: v1.CreateFolderRequest) -> v1.CreateFolderResponse:
    place = call.place(tx, request.mailbox_id)
    folder_id = folders.create(
        tx, place, request.path, call.now, parent=request.parent_folder_id, role=_role(request.role)
    )
    facts = folders.get(tx, rights.within(tx, place, folder_id))
    commit = convert.commit_token(call, place.mailbox_id, facts.change_number)
    return v1.CreateFolderResponse(folder=convert.folder(facts), commit=commit)


@handlers.write(methods.MOVE_FOLDER, rule=MAIL_SESSION)
def move_folder(tx: Connection, call: Call, request: v1.MoveFolderRequest) -> v1.MoveFolderResponse:
    place = call.place(tx, request.mailbox_id, request.folder_id)
    folders.move(
        tx,
        place,
        request.path,
        call.now,
        parent=request.target_parent_folder_id,
        if_change_number=request.if_change_number if request.HasField("if_change_number") else None,
    )
    facts = folders.get(tx, place)
    commit = convert.commit_token(call, place.mailbox_id, facts.change_number)
    return v1.MoveFolderResponse(folder=convert.folder(facts), commit=commit)


@handlers.write(methods.UPDATE_FOLDER, rule=MAIL_SESSION)
def update_folder(tx: Connection, call: Call, request: v1.UpdateFolderRequest) -> v1.UpdateFolderResponse:
    place = call.place(tx, request.mailbox_id, request.folder_id)
    unless = request.if_change_number if request.HasField("if_change_number") else None
    role = _role(request.role) if request.HasField("role") else None
    folders.set_role(tx, place, role, if_change_number=unless)
    facts = folders.get(tx, place)
    commit = convert.commit_token(call, place.mailbox_id, facts.change_number)
    return v1.UpdateFolderResponse(folder=convert.folder(facts), commit=commit)


@handlers.write(methods.DELETE_FOLDER, rule=MAIL_SESSION)
def delete_folder(tx: Connection, call: Call, request: v1.DeleteFolderRequest) -> v1.DeleteFolderResponse:
    place = call.place(tx, request.mailbox_id, request.folder_id)
    gone, number = removal.delete_folder(tx, place, call.now)
    return v1.DeleteFolderResponse(deleted_count=gone, commit=convert.commit_token(call, place.mailbox_id, number))


@handlers.stream("FolderService", "OpenFolder", rule=MAIL_SESSION)
async def open_folder(call: Call, request: v1.OpenFolderRequest) -> AsyncIterator[v1.OpenFolderResponse]:
    """See FolderService.OpenFolder.

    A folder of at most ROWS_AT_ONCE messages is read in one snapshot. For a larger folder the last responses carry the
    changes made during the reads.
    """
    claim = call.claim(request.mailbox_id, request.folder_id)
    if request.HasField("min_commit"):
        await call.reach(request.min_commit)
    facts, delta, ended = await call.core.db.read(_first_page, claim)
    since = delta.change_number
    for part in delta.pieces(ROWS_AT_ONCE, KEYWORD_OCTETS):
        yield v1.OpenFolderResponse(folder=convert.folder(facts) if facts else None, rows=convert.folder_changes(part))
        facts = None
    while not ended:
        delta, ended = await call.core.db.read(_further_page, claim, delta.uids[-1])
        for part in delta.pieces(ROWS_AT_ONCE, KEYWORD_OCTETS):
            yield v1.OpenFolderResponse(rows=convert.folder_changes(part))
    ended, behind = delta.change_number == since, Behind.number(since)
    while not ended:
        delta, behind, ended = await call.core.db.read(_changed_page, claim, since, behind)
        for part in delta.pieces(ROWS_AT_ONCE, KEYWORD_OCTETS):
            yield v1.OpenFolderResponse(rows=convert.folder_changes(part))


def _first_page(tx: Connection, claim: Claim) -> tuple[FolderFacts | None, FolderDelta, bool]:
    place = claim.place(tx)
    delta, ended = rows.folder_page(tx, place, 0, ROWS_AT_ONCE)
    return folders.get(tx, place), delta, ended


def _further_page(tx: Connection, claim: Claim, after_uid: int) -> tuple[FolderDelta, bool]:
    place = claim.place(tx)
    return rows.folder_page(tx, place, after_uid, ROWS_AT_ONCE)


def _changed_page(tx: Connection, claim: Claim, since: int, behind: Behind) -> tuple[FolderDelta, Behind, bool]:
    place = claim.place(tx)
    return changed.page(tx, place, since, behind, ROWS_AT_ONCE)


@handlers.read(methods.READ_FOLDER_CHANGES, rule=MAIL_SESSION, short=lambda request: request.since_change_number > 0)
def read_folder_changes(
    tx: Connection, call: Call, request: v1.ReadFolderChangesRequest
) -> v1.ReadFolderChangesResponse:
    if request.epoch not in (0, call.core.epoch):
        raise EpochChanged(epoch=call.core.epoch)
    place = call.place(tx, request.mailbox_id, request.folder_id)
    delta = changes.folder_changes(tx, place, request.since_change_number)
    return v1.ReadFolderChangesResponse(changes=convert.folder_changes(delta))


@handlers.decided(methods.GET_CHANGE_NUMBERS, rule=FOLLOWERS, reads=every)
def get_change_numbers(call: Call, request: v1.GetChangeNumbersRequest) -> Decided:
    if len(request.folders) > MOST_FOLLOWED:
        raise InvalidArgument(field="folders", problem=f"must be at most {MOST_FOLLOWED}")
    keys = [_known_key(call, wanted) for wanted in request.folders]
    if None in keys:
        return partial(_read_change_numbers, call, request)
    return _change_numbers(call, [key for key in keys if key is not None])


async def _read_change_numbers(call: Call, request: v1.GetChangeNumbersRequest) -> v1.GetChangeNumbersResponse:
    decided = _change_numbers(call, [await _key(call, wanted) for wanted in request.folders])
    return decided if isinstance(decided, v1.GetChangeNumbersResponse) else await decided()


def _change_numbers(
    call: Call, keys: Sequence[FolderKey | RestanteError]
) -> v1.GetChangeNumbersResponse | Callable[[], Awaitable[v1.GetChangeNumbersResponse]]:
    numbers = [0 if isinstance(key, RestanteError) else call.core.numbers.of(key) for key in keys]
    known = [number for number in numbers if isinstance(number, int)]
    if len(known) < len(numbers):
        return partial(_wait_for_change_numbers, call, keys, numbers)
    return _answer_change_numbers(call, keys, known)


async def _wait_for_change_numbers(
    call: Call, keys: Sequence[FolderKey | RestanteError], numbers: Sequence[int | asyncio.Future[int]]
) -> v1.GetChangeNumbersResponse:
    found = [number if isinstance(number, int) else await number for number in numbers]
    return _answer_change_numbers(call, keys, found)


def _answer_change_numbers(
    call: Call, keys: Sequence[FolderKey | RestanteError], numbers: Sequence[int]
) -> v1.GetChangeNumbersResponse:
    answer = v1.GetChangeNumbersResponse(epoch=call.core.epoch)
    for index, (key, told) in enumerate(zip(keys, numbers, strict=True)):
        answer.change_numbers.append(told)
        if not told:
            why = key if isinstance(key, RestanteError) else FolderNotFound(folder_id=key[1])
            answer.refused.append(v1.RefusedFolder(index=index, status=to_status(why)))
    return answer


def _known_key(call: Call, wanted: v1.FollowedFolder) -> FolderKey | RestanteError | None:
    """As `_key`, but from memory alone; None if the session must be read."""
    try:
        caller = call.core.authenticator.known(wanted.session_token, call.caller)
        if caller is None:
            return None
        MAIL_SESSION(caller)
        return named(caller, wanted.mailbox_id), wanted.folder_id
    except RestanteError as error:
        return error


async def _key(call: Call, wanted: v1.FollowedFolder) -> FolderKey | RestanteError:
    """The (mailbox, folder) of a followed folder, or the error if its session may not see it."""
    try:
        caller = await call.core.authenticator.session(wanted.session_token, call.caller)
        MAIL_SESSION(caller)
        return named(caller, wanted.mailbox_id), wanted.folder_id
    except RestanteError as error:
        return error


@handlers.write(methods.CLAIM_RECENT, rule=MAIL_SESSION)
def claim_recent(tx: Connection, call: Call, request: v1.ClaimRecentRequest) -> v1.ClaimRecentResponse:
    place = call.place(tx, request.mailbox_id, request.folder_id)
    first, following = folders.claim_recent(tx, place)
    return v1.ClaimRecentResponse(recent_uid=first, uid_next=following)


@handlers.write(methods.SET_SUBSCRIPTION, rule=MAIL_SESSION)
def set_subscription(tx: Connection, call: Call, request: v1.SetSubscriptionRequest) -> v1.SetSubscriptionResponse:
    place = call.place(tx, request.mailbox_id)
    change = subscriptions.add if request.subscribed else subscriptions.remove
    change(tx, place, request.path)
    number = mailboxes.change_number(tx, place)
    return v1.SetSubscriptionResponse(commit=convert.commit_token(call, place.mailbox_id, number))


@handlers.read(methods.LIST_SUBSCRIPTIONS, rule=READ_SESSION)
def list_subscriptions(
    tx: Connection, call: Call, request: v1.ListSubscriptionsRequest
) -> v1.ListSubscriptionsResponse:
    page = pages.Page.asked("subscriptions", request, call.result_octets, 2)
    names = subscriptions.names(tx, call.place(tx, request.mailbox_id))
    start = pages.behind_text(names, *page.key)
    answer = v1.ListSubscriptionsResponse()
    return page.fill(answer, answer.subscriptions, names[start : start + page.most], _path, pages.text_key)


def _path(name: str) -> v1.FolderPath:
    return v1.FolderPath(path=name.split(SEPARATOR))


def _role(role: int) -> int:
    return convert.bounded_range(role, 0, max(v1.FolderRole.values()), "role")
