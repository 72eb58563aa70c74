"""Taking responsibility: messages, recipients and deliveries, set at a time (docs/design.md "Inbound mail")."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, insert, select

from restante.errors import RequestIdReused, RestanteError, StoreBusy, UploadNotFound
from restante_mail.idset import IdSet
from restante_server.db import prepared
from restante_server.db.schema import request
from restante_server.db.upsert import insert_into
from restante_server.store import changes, contents, garbage, messages, removal, requests, uploads
from restante_server.store.changes import Touched
from restante_server.store.messages import NewMessage, Placed, Placement
from restante_server.store.removal import Mode
from restante_server.store.selection import Selection
from restante_server.transport import rows
from restante_server.transport.inbound import deliver
from restante_server.transport.inbound.deliver import Inbox
from restante_server.transport.outbound import reports
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.outbound.reports import Notice
from restante_server.transport.records import Incoming, Origin, Planned, SentCopy
from restante_server.transport.settings import DIRECT_DELIVERIES, TransportSettings
from restante_server.transport.states import WAITING, State

ROWS_OF_DELIVERY = 6  # message, listing, delivered, recipient, and a share of the counters
ROWS_OF_MESSAGE = 8


class Taken(NamedTuple):
    """A message that is ours now."""

    transport_id: int
    sent: Placed | None = None  # where the sender's copy is


class RequestRaced(StoreBusy):
    """Another core has taken the same request at this moment: ask again, and its answer is there."""


Told = Callable[[dict[int, Touched]], object]
"""Called after the commit with what it touched; work may be waiting."""


def direct(recipients: Iterable[Planned]) -> list[Planned]:
    """The local recipients that are delivered in the transaction that takes the message."""
    return [planned for planned in recipients if planned.mailbox_id and planned.state is State.PENDING][
        :DIRECT_DELIVERIES
    ]


@dataclass(frozen=True, eq=False, slots=True)
class TakeMail:
    """One message, once per request id. The result is Taken. See db.operation.Mergeable."""

    settings: TransportSettings
    incoming: Incoming
    key: requests.Key
    method: str
    fingerprint: bytes
    remembered_until: int
    told: Told

    @property
    def mailboxes(self) -> frozenset[int]:
        """Those that are delivered to directly, and the sender's for its copy and its draft."""
        item = self.incoming
        named = {planned.mailbox_id for planned in direct(item.recipients)} if item.send_at is None else set()
        if item.sent is not None:
            named.add(item.sent.mailbox_id)
        if item.stored is not None:
            named.add(item.stored.mailbox_id)
        return frozenset(named)

    @property
    def contents(self) -> frozenset[int]:
        """Contents that are in the store already."""
        staged = [self.incoming.staged]
        if self.incoming.sent is not None and self.incoming.sent.staged is not None:
            staged.append(self.incoming.sent.staged)
        return frozenset(one.content_id for one in staged if one.content_id)

    @property
    def rows(self) -> int:
        """About how many it writes."""
        return ROWS_OF_MESSAGE + ROWS_OF_DELIVERY * len(self.incoming.recipients)

    @property
    def octets(self) -> int:
        """About how many it writes."""
        new = self.incoming.staged.new
        return len(new.octets) if new is not None and new.octets is not None else 0

    def run(self, tx: Connection) -> _Outcome:
        """See Operation."""
        (outcome,) = self.run_many(tx, [self])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @classmethod
    def run_many(cls, tx: Connection, operations: Sequence[TakeMail]) -> list[_Outcome | Exception]:
        """See Mergeable."""
        changes.forget_touched(tx)
        outcomes: list[_Outcome | Exception | None] = list(_known(tx, operations))
        twice: dict[requests.Key, int] = {}
        fresh: list[int] = []
        for index, operation in enumerate(operations):
            if outcomes[index] is not None:
                continue
            try:
                if operation.key in twice:  # asked twice at once: the second has the first one's answer
                    _same(
                        operation, operations[twice[operation.key]].method, operations[twice[operation.key]].fingerprint
                    )
                    continue
                _use_uploads(tx, operation.incoming)
            except RestanteError as error:
                outcomes[index] = error
                continue
            twice[operation.key] = index
            fresh.append(index)
            _put_away_draft(tx, operation.incoming)
        taken = take(tx, [operations[index].incoming for index in fresh], operations[0].settings)
        _remember(tx, [(operations[index], one) for index, one in zip(fresh, taken, strict=True)])
        touched = changes.take_touched(tx)
        for index, one in zip(fresh, taken, strict=True):
            outcomes[index] = _Outcome(one, touched, new=True)
            touched = {}
        for index, operation in enumerate(operations):
            if outcomes[index] is None:
                first = outcomes[twice[operation.key]]
                outcomes[index] = first if isinstance(first, Exception) else _Outcome(first.taken)  # type: ignore[union-attr]
        return [outcome for outcome in outcomes if outcome is not None]

    def after_commit(self, outcome: _Outcome) -> None:
        """Tell the watchers, and those who deliver and relay."""
        if outcome.new:
            self.told(outcome.touched)


@dataclass(frozen=True, slots=True)
class _Outcome:
    taken: Taken
    touched: dict[int, Touched] = field(default_factory=dict)
    new: bool = False


# --- Once per request id ----------------------------------------------------------------------------------------------

_insert = insert(request)
_found = select(
    request.c.mailbox_id,
    request.c.actor,
    request.c.request_id,
    request.c.method,
    request.c.fingerprint,
    request.c.response,
)
_find_one = _found.where(
    request.c.mailbox_id == bindparam("mailbox_id"),
    request.c.actor == bindparam("actor"),
    request.c.request_id == bindparam("request_id"),
)
_find = _found.where(
    request.c.mailbox_id.in_(bindparam("mailboxes", expanding=True)),
    request.c.actor.in_(bindparam("actors", expanding=True)),
    request.c.request_id.in_(bindparam("ids", expanding=True)),
)


def _known(tx: Connection, operations: Sequence[TakeMail]) -> list[_Outcome | Exception | None]:
    """The answer of each operation that has been done before."""
    keys = [operation.key for operation in operations]
    found = {requests.Key(row[0], row[1], bytes(row[2])): row for row in _remembered(tx, keys)}
    known: list[_Outcome | Exception | None] = []
    for operation in operations:
        row = found.get(operation.key)
        if row is None:
            known.append(None)
            continue
        try:
            _same(operation, row[3], bytes(row[4]))
            known.append(_Outcome(decode(bytes(row[5]))))
        except RequestIdReused as error:
            known.append(error)
    return known


def _remembered(tx: Connection, keys: Sequence[requests.Key]) -> Iterable[Sequence[Any]]:
    """The rows of these keys and perhaps of others."""
    if len(keys) == 1 or tx.dialect.name == "sqlite":  # where nothing is far away, a look for each costs less
        looks = (prepared.first(tx, _find_one, key._asdict()) for key in keys)
        return [row for row in looks if row is not None]
    where = {
        "mailboxes": sorted({key.mailbox_id for key in keys}),
        "actors": sorted({key.actor for key in keys}),
        "ids": sorted({key.request_id for key in keys}),
    }
    return tx.execute(_find, where).all()


def _same(operation: TakeMail, method: str, fingerprint: bytes) -> None:
    if (operation.method, operation.fingerprint) != (method, fingerprint):
        raise RequestIdReused


def _remember(tx: Connection, done: Sequence[tuple[TakeMail, Taken]]) -> None:
    """Raises RequestRaced when another core was first, which undoes all."""
    made = [
        {
            **operation.key._asdict(),
            "method": operation.method,
            "fingerprint": operation.fingerprint,
            "response": _encode(taken),
            "expires_at": operation.remembered_until,
        }
        for operation, taken in done
    ]
    if not made:
        return
    if tx.dialect.name == "sqlite":  # one writer: nobody can be first
        prepared.run_many(tx, _insert, made)
        return
    statement = insert_into(tx, request).on_conflict_do_nothing().returning(request.c.request_id)
    if len(tx.execute(statement, made).all()) != len(made):
        raise RequestRaced


def _encode(taken: Taken) -> bytes:
    sent = taken.sent or ()
    return b"".join(number.to_bytes(8, "big") for number in (taken.transport_id, *sent))


def decode(stored: bytes) -> Taken:
    """What was remembered of a request."""
    numbers = [int.from_bytes(stored[at : at + 8], "big") for at in range(0, len(stored), 8)]
    return Taken(numbers[0], Placed(*numbers[1:]) if len(numbers) > 1 else None)


def _use_uploads(tx: Connection, item: Incoming) -> None:
    """Raises UploadNotFound, having taken none."""
    owner = item.account_id or 0
    for upload_id in item.uploads:
        if uploads.get(tx, upload_id, owner, item.accepted_at).content_id is None:
            raise UploadNotFound
    for upload_id in item.uploads:
        garbage.notice(tx, [uploads.take(tx, upload_id, owner, item.accepted_at)], item.accepted_at)


def _put_away_draft(tx: Connection, item: Incoming) -> None:
    """A draft that is sent leaves its folder, recoverable: before the Sent copy, whose change number tells of both."""
    if item.stored is not None and messages.is_draft(tx, *item.stored):
        mailbox_id, message_id = item.stored
        removal.remove(tx, mailbox_id, Selection(None, IdSet.of([message_id])), Mode.SOFT, item.accepted_at)


# --- The set ----------------------------------------------------------------------------------------------------------


def take(tx: Connection, items: Sequence[Incoming], settings: TransportSettings) -> list[Taken]:
    """Take messages, delivering to at most 100 mailboxes of each; the others wait. The mailboxes must be locked.

    One statement a table, however many messages and recipients there are. Raises StoreBusy when a content that was
    brought before has lapsed.
    """
    if not items:
        return []
    now = items[0].accepted_at
    content_ids = _contents(tx, items, now)
    wanted = {planned.mailbox_id for item in items if item.send_at is None for planned in direct(item.recipients)}
    found = deliver.inboxes(tx, wanted)
    drafts = [_Draft(item, content_id, found) for item, content_id in zip(items, content_ids, strict=True)]
    held = [(draft.item, draft.content_id if draft.waits else None) for draft in drafts]
    for draft, transport_id in zip(drafts, rows.insert_messages(tx, held), strict=True):
        draft.transport_id = transport_id
    placed, copies = _place(tx, drafts)
    recipient_rows: list[dict[str, Any]] = []
    for draft in drafts:
        due_at = draft.item.send_at or draft.item.accepted_at
        expires_at = settings.schedule.expires_at(due_at)
        recipient_rows += [
            rows.recipient_row(draft.transport_id, number, planned, due_at, expires_at)
            for number, planned in enumerate(draft.rows, 1)
        ]
    prepared.run_many(tx, rows.insert_recipients, recipient_rows)
    deliver.remember(tx, placed, now)
    for draft in drafts:
        reports.send(tx, settings, draft.origin, draft.content_id, draft.notices(), draft.item.accepted_at)
    # Where nothing was placed and nobody waits, the content is held by no one.
    garbage.notice(tx, [draft.content_id for draft in drafts if not draft.waits and not draft.deliveries], now)
    return [Taken(draft.transport_id, copy) for draft, copy in zip(drafts, copies, strict=True)]


class _Draft:
    """One message of the set: its recipients as they end in this transaction."""

    def __init__(self, item: Incoming, content_id: int, found: dict[int, Inbox]) -> None:
        self.item, self.content_id = item, content_id
        self.transport_id = 0
        self.rows: list[Planned] = []
        self.deliveries: list[tuple[int, int, Inbox, bytes]] = []  # recipient id, mailbox, Inbox, head
        self.also: list[tuple[int, int]] = []  # recipient id, mailbox that another recipient has brought it to
        chosen = {id(planned) for planned in direct(item.recipients)} if item.send_at is None else set()
        reached: set[int] = set()
        for number, planned in enumerate(item.recipients, 1):
            self.rows.append(
                self._settle(number, planned, found, reached) if id(planned) in chosen else self._wait(planned)
            )
        self.waits = any(planned.state in WAITING for planned in self.rows)

    def _wait(self, planned: Planned) -> Planned:
        if self.item.send_at is None or planned.state is not State.PENDING:
            return planned
        return _with(planned, State.SCHEDULED, "", "")

    def _settle(self, number: int, planned: Planned, found: dict[int, Inbox], reached: set[int]) -> Planned:
        inbox = found.get(planned.mailbox_id)
        if inbox is None:
            return _with(planned, *deliver.GONE)
        if planned.mailbox_id in reached:
            self.also.append((number, planned.mailbox_id))
        else:
            front = deliver.head(self.item.reverse_path, planned.forward_path, self.item.trace_field)
            octets = len(front) + self.item.staged.size_octets
            if planned.within_quota and not inbox.has_room(octets):
                return _with(planned, *deliver.FULL)
            reached.add(planned.mailbox_id)
            # Its neighbours of the set find that much less room.
            found[planned.mailbox_id] = inbox._replace(used_octets=inbox.used_octets + octets)
            self.deliveries.append((number, planned.mailbox_id, inbox, front))
        return _with(planned, State.DELIVERED, deliver.DELIVERED_STATUS, "")

    @property
    def origin(self) -> Origin:
        item = self.item
        return Origin(
            self.transport_id,
            item.reverse_path,
            self.content_id,
            item.trace_field,
            item.size_octets,
            item.dsn_return,
            item.envelope_id,
            item.accepted_at,
            item.send_at,
            item.account_id,
        )

    def placements(self) -> list[Placement]:
        """What goes into Inboxes."""
        item = self.item
        return [
            deliver.placement(
                mailbox_id,
                inbox,
                self.content_id,
                item.staged.size_octets,
                item.listing,
                front,
                item.accepted_at,
            )
            for _, mailbox_id, inbox, front in self.deliveries
        ]

    def notices(self) -> list[Notice]:
        """What the sender may want to hear at once."""
        if not self.item.reverse_path:
            return []
        actions = {State.FAILED: Action.FAILED, State.DELIVERED: Action.DELIVERED}
        made = []
        for planned in self.rows:
            action = (
                Action.EXPANDED if planned.state is State.EXPANDED and planned.reported else actions.get(planned.state)
            )
            if action is not None:
                made.append(
                    Notice(
                        action,
                        planned.forward_path,
                        planned.original_recipient,
                        planned.notify,
                        planned.status,
                        planned.diagnostic,
                    )
                )
        return made


def _with(planned: Planned, state: State, status: str, diagnostic: str) -> Planned:
    return Planned(
        planned.forward_path,
        state,
        planned.notify,
        planned.original_recipient,
        planned.mailbox_id,
        planned.destination,
        status,
        diagnostic,
    )


def _contents(tx: Connection, items: Sequence[Incoming], now: int) -> list[int]:
    """The content of each message, inserted where it is new."""
    new = [item.staged.new for item in items if item.staged.new is not None]
    inserted = iter(contents.insert_many(tx, new, now))
    return [next(inserted) if item.staged.new is not None else item.staged.insert(tx, now) for item in items]


def _place(tx: Connection, drafts: Sequence[_Draft]) -> tuple[list[tuple[int, int, int, int]], list[Placed | None]]:
    """Place everything at once: returns the keys of the deliveries, and each sender's copy."""
    placements: list[Placement] = []
    for draft in drafts:
        placements += draft.placements()
        if draft.item.sent is not None:
            placements.append(_sent(tx, draft, draft.item.sent))
    # Room was promised at RCPT or judged above; a Sent copy is never a reason not to send.
    placed = iter(messages.place(tx, placements, within_quota=False))
    keys: list[tuple[int, int, int, int]] = []
    copies: list[Placed | None] = []
    for draft in drafts:
        in_mailbox: dict[int, int] = {}
        for number, mailbox_id, _, _ in draft.deliveries:
            in_mailbox[mailbox_id] = next(placed).message_id
            keys.append((mailbox_id, draft.transport_id, number, in_mailbox[mailbox_id]))
        keys += [(mailbox_id, draft.transport_id, number, in_mailbox[mailbox_id]) for number, mailbox_id in draft.also]
        copies.append(next(placed) if draft.item.sent is not None else None)
    return keys, copies


def _sent(tx: Connection, draft: _Draft, copy: SentCopy) -> Placement:
    item = draft.item
    content_id = copy.staged.insert(tx, item.accepted_at) if copy.staged is not None else draft.content_id
    size = copy.staged.size_octets if copy.staged is not None else item.staged.size_octets
    message = NewMessage(content_id, size, copy.listing, flags=copy.flags, received_at=item.accepted_at)
    return Placement(copy.mailbox_id, copy.folder_id, message)
