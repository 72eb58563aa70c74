"""The operation that accepts messages (docs/design.md "Inbound mail", "Outbound mail").

It accepts a message once per request id, and uses up the uploads and the draft that the message was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from restante.errors import RestanteError, UploadNotFound
from restante_mail.idset import IdSet
from restante_server.directory import rights
from restante_server.store import garbage, messages, removal, requests, uploads
from restante_server.store.messages import Placed
from restante_server.store.removal import Mode
from restante_server.store.requests import Request
from restante_server.store.selection import Selection
from restante_server.transport.enqueue import Taken, direct, enqueue
from restante_server.transport.records import Incoming
from restante_server.transport.scheduled import ScheduledMail
from restante_server.transport.settings import TransportSettings

ROWS_OF_DELIVERY = 6  # approximate: message, listing, delivered, recipient, and a share of the counters
ROWS_OF_MESSAGE = 8


@dataclass(frozen=True, slots=True)
class TakeResult:
    """The result for one message."""

    taken: Taken
    new: bool = False  # accepted by this operation, not by an earlier one


@dataclass(frozen=True, eq=False, slots=True)
class TakeMail:
    """Accept one message, once per request id. The result is a TakeResult. See db.operation.Mergeable."""

    settings: TransportSettings
    incoming: Incoming
    request: Request
    refused: tuple[int, ...] = ()  # becomes a part of the kept answer; see Taken

    @property
    def mailboxes(self) -> frozenset[int]:
        """The mailboxes of direct deliveries, and the sender's for the sent copy, the draft or a scheduled message."""
        item = self.incoming
        named = {one.mailbox_id for one in direct(item, self.settings.direct_deliveries)}
        if item.sent is not None:
            named.add(item.sent.mailbox_id)
        if item.stored is not None:
            named.add(item.stored.mailbox_id)
        if item.send_at is not None:  # the lock serialises the count of scheduled mail
            named.add(self.request.key.mailbox_id)
        return frozenset(named)

    @property
    def contents(self) -> frozenset[int]:
        """The named contents that are in the store already."""
        staged = [self.incoming.staged]
        if self.incoming.sent is not None and self.incoming.sent.staged is not None:
            staged.append(self.incoming.sent.staged)
        return frozenset(one.content_id for one in staged if one.content_id)

    @property
    def rows(self) -> int:
        """The approximate number of rows written."""
        return ROWS_OF_MESSAGE + ROWS_OF_DELIVERY * len(self.incoming.recipients)

    @property
    def octets(self) -> int:
        """The approximate number of octets written."""
        return self.incoming.staged.octets

    def run(self, tx: Connection) -> TakeResult:
        """See Operation."""
        (outcome,) = self.run_many(tx, [self])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @classmethod
    def run_many(cls, tx: Connection, operations: Sequence[TakeMail]) -> list[TakeResult | Exception]:
        """See Mergeable. Raises RequestRaced when another core executes a request of the set at the same time."""
        asked = requests.sort(tx, [operation.request for operation in operations])
        outcomes: dict[int, TakeResult | Exception] = {
            at: answer if isinstance(answer, Exception) else TakeResult(decode(answer))
            for at, answer in asked.known.items()
        }
        ready: list[int] = []
        scheduled = ScheduledMail(tx, operations[0].settings)
        for at in asked.fresh:
            try:
                _require_uploads(tx, operations[at].incoming)
                scheduled.add(operations[at].incoming)
            except RestanteError as error:
                outcomes[at] = error
                continue
            _use_uploads(tx, operations[at].incoming)
            _put_away_draft(tx, operations[at].incoming)
            ready.append(at)
        taken = enqueue(tx, [operations[at].incoming for at in ready], operations[0].settings)
        for place, at in enumerate(ready):
            if operations[at].refused:
                taken[place] = taken[place]._replace(refused=operations[at].refused)
        answers = [(operations[at].request, encode(one)) for at, one in zip(ready, taken, strict=True)]
        requests.keep(tx, answers, is_locked=False)
        for at, one in zip(ready, taken, strict=True):
            outcomes[at] = TakeResult(one, new=True)
        for at, earlier in asked.repeats.items():
            first = outcomes[earlier]
            outcomes[at] = first if isinstance(first, Exception) else TakeResult(first.taken)
        return [outcomes[at] for at in range(len(operations))]


def encode(taken: Taken) -> bytes:
    """A result in the form that is kept under its request id: numbers of 8 octets.

    The id in queue and trace, then the ids of the sender's copy, or a zero and the refused recipients.
    """
    more = (0, *taken.refused) if taken.refused else taken.sent or ()
    return b"".join(number.to_bytes(8, "big") for number in (taken.transport_id, *more))


def decode(kept: bytes) -> Taken:
    """The result from its kept form."""
    transport_id, *more = (int.from_bytes(kept[at : at + 8], "big") for at in range(0, len(kept), 8))
    if more and not more[0]:
        return Taken(transport_id, refused=tuple(more[1:]))
    return Taken(transport_id, Placed(*more) if more else None)


def _require_uploads(tx: Connection, item: Incoming) -> None:
    """Raise UploadNotFound unless the message's uploads are there, and are whole."""
    for upload_id in item.uploads:
        if uploads.get(tx, upload_id, item.account_id or 0, item.accepted_at).content_id is None:
            raise UploadNotFound


def _use_uploads(tx: Connection, item: Incoming) -> None:
    for upload_id in item.uploads:
        garbage.notice(tx, [uploads.take(tx, upload_id, item.account_id or 0, item.accepted_at)], item.accepted_at)


def _put_away_draft(tx: Connection, item: Incoming) -> None:
    """Delete the sent draft softly. It must precede the Sent copy, whose higher change number then covers both."""
    if item.stored is None:
        return
    place, message_id = rights.system(item.stored.mailbox_id), item.stored.message_id
    if messages.is_draft(tx, place, message_id):
        removal.remove(tx, place, Selection(None, IdSet.of([message_id])), Mode.SOFT, item.accepted_at)
