"""The view of a folder that all sessions of the process share: packed columns, kept current by change number. *Pure.*

Readers hold the arrays themselves. New messages are appended in place, after those that a reader has counted. A removal
builds new arrays in one pass. Sessions that have not announced the removal yet keep the old UIDs and the rows of the
removed messages (RFC 3501 7.4.1).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence

from restante_gateways.imap.grammar.flags import Flags, SystemFlag
from restante_gateways.imap.grammar.sets import MAX_NUMBER, positions
from restante_gateways.imap.values import Changes
from restante_gateways.imap.view.departed import Departed, Step
from restante_gateways.imap.view.journal import Journal
from restante_gateways.imap.view.pending import PendingStore
from restante_gateways.imap.view.states import StateTable
from restante_mail.ranges import Range, merge, subtract


class Gap(Exception):
    """The changes begin above the view's change number; the caller must read those between first."""


class FolderView:
    """Columns of one folder in ascending UID order: 24 octets a message, for any number of sessions."""

    __slots__ = (
        "_counts",
        "_seen_before",
        "change_number",
        "change_numbers",
        "claimed_uid",
        "journal",
        "message_ids",
        "pending",
        "recent_uid",
        "states",
        "step",
        "table",
        "uid_next",
        "uid_validity",
        "uids",
    )

    def __init__(self, uid_validity: int, change_number: int) -> None:
        self.uid_validity = uid_validity
        self.change_number = change_number  # all changes of the folder up to here are included
        self.uid_next = 1
        self.recent_uid = 1  # lowest UID that no session of any process has claimed
        self.claimed_uid = 1  # lowest UID that no session of this process has claimed
        self.uids = array("I")
        self.message_ids = array("q")
        self.states = array("I")  # indices into the table
        self.change_numbers = array("q")
        self.table = StateTable()
        self.step = Step()  # the present moment in the chain of removals
        self.pending: list[PendingStore] = []
        self.journal = Journal(change_number)
        self._counts = Counter[int]()  # messages in each state
        self._seen_before = 0  # every message at a lower index is \\Seen

    def __len__(self) -> int:
        return len(self.uids)

    def load(self, rows: Changes) -> None:
        """Add a batch of the first snapshot. Batches arrive in ascending UID order.

        The core reads a large folder in pieces. The last batches have `since_change_number` and hold the changes since
        the first batch.
        """
        if rows.since_change_number:
            self._remove(_vanished(rows))
            self._merge_rows(rows)
            self.change_number = max(self.change_number, rows.change_number)
        else:
            self._add_new(rows, 0, self._state_reader(rows))
        self._note_marks(rows)

    def apply(self, changes: Changes) -> bool:
        """Bring the view up to `changes.change_number`. Return False if it was there already.

        Idempotent. Raises Gap, with nothing changed, if earlier changes are missing.
        """
        if changes.change_number <= self.change_number:
            return False
        if changes.since_change_number > self.change_number:
            raise Gap
        if changes.vanished:
            self._remove(_vanished(changes))
        self._merge_rows(changes)
        self.change_number = changes.change_number
        self._note_marks(changes)
        return True

    def _merge_rows(self, changes: Changes) -> None:
        state_of = self._state_reader(changes)
        known = bisect_right(changes.uids, self.uids[-1]) if self.uids else 0
        if known:
            self._update_known(changes, known, state_of)
        if known < len(changes.uids):
            self._add_new(changes, known, state_of)

    def apply_snapshot(self, batches: Sequence[Changes], change_number: int) -> bool:
        """Bring the view to a snapshot of the whole folder. Return False if it is no newer than the view."""
        if change_number <= self.change_number:
            return False
        there = merge((uids[at], uids[at]) for uids in (rows.uids for rows in batches) for at in range(len(uids)))
        count = len(self.uids)
        while count and self.change_numbers[count - 1] > change_number:
            count -= 1  # the snapshot lacks messages added here after it was read
        gone = subtract([(self.uids[0], self.uids[count - 1])], there) if count else []
        gone += (run for rows in batches for run in _vanished(rows))
        self._remove(merge(gone))
        for rows in batches:
            self._merge_rows(rows)
            self._note_marks(rows)
            if rows.since_change_number:  # as in `load`
                change_number = max(change_number, rows.change_number)
        self.change_number = change_number
        return True

    def add(self, uid: int, message_id: int, flags: Flags, change_number: int, since: int) -> bool:
        """Add a message that a session of this process has just appended, before the core reports it as a change.

        `since` is the folder's change number before the append. Return False, with nothing changed, if messages with
        lower UIDs may be missing.
        """
        if uid != self.uid_next or change_number <= self.change_number:
            return self.position(uid) is not None
        self.uids.append(uid)
        self.message_ids.append(message_id)
        state = self.table.index(int(flags.system), flags.keywords)
        self.states.append(state)
        self._counts[state] += 1
        self.change_numbers.append(change_number)
        if since == self.change_number:  # no other change lies between
            self.change_number = change_number
        self.uid_next = uid + 1
        return True

    def note_folder(self, uid_next: int, recent_uid: int) -> None:
        """Record the folder's UID marks as of the snapshot."""
        self._note_marks(Changes(uid_next=uid_next, recent_uid=recent_uid))

    def note_claim(self, uid: int) -> None:
        """Record that this process has claimed the recent messages below a UID.

        The UID may be above the view's last message. The messages between are reported as \\Recent here on arrival.
        """
        self.recent_uid = max(self.recent_uid, min(uid, self.uid_next))
        self.claimed_uid = max(self.claimed_uid, self.recent_uid)

    def position(self, uid: int) -> int | None:
        """The index of a message; None if it is not in the folder."""
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else None

    @property
    def unseen_count(self) -> int:
        """The number of messages without \\Seen."""
        seen = self.table.having(SystemFlag.SEEN)
        return sum(count for state, count in self._counts.items() if state not in seen)

    def first_unseen(self) -> int | None:
        """The position of the first message without \\Seen, or None. Later calls go on where the last one ended."""
        seen, states = self.table.having(SystemFlag.SEEN), self.states
        if not self.unseen_count:
            return None
        while states[self._seen_before] in seen:
            self._seen_before += 1
        return self._seen_before

    def any_deleted(self) -> bool:
        """Whether a message has \\Deleted."""
        return any(self._counts[state] for state in self.table.having(SystemFlag.DELETED))

    def _note_marks(self, changes: Changes) -> None:
        last = self.uids[-1] + 1 if self.uids else 1
        self.uid_next = max(self.uid_next, changes.uid_next, last)
        self.recent_uid = max(self.recent_uid, changes.recent_uid)
        self.claimed_uid = max(self.claimed_uid, self.recent_uid)

    def _state_reader(self, rows: Changes) -> Callable[[int], int]:
        """A function from a row of the batch to its state, which looks up each distinct state once."""
        flags, sets, table = rows.flags, rows.keyword_sets, self.table
        keyword_sets = rows.keywords
        known: dict[tuple[int, int], int] = {}

        def read(at: int) -> int:
            key = (flags[at], sets[at] if sets else 0)
            state = known.get(key)
            if state is None:
                state = known[key] = table.index(key[0], keyword_sets[key[1]] if keyword_sets else ())
            return state

        return read

    def _add_new(self, rows: Changes, first: int, state_of: Callable[[int], int]) -> None:
        self.uids.extend(rows.uids[first:])
        self.message_ids.extend(rows.message_ids[first:])
        self.change_numbers.extend(rows.change_numbers[first:])
        states = array("I", map(state_of, range(first, len(rows.uids))))
        self.states.extend(states)
        self._counts.update(states)

    def _update_known(self, changes: Changes, count: int, state_of: Callable[[int], int]) -> None:
        uids, states, numbers, pending = self.uids, self.states, self.change_numbers, self.pending
        counts = self._counts
        total, at = len(uids), 0
        changed: dict[int, list[int]] = {}
        for row, (uid, number) in enumerate(zip(changes.uids[:count], changes.change_numbers, strict=False)):
            if at == total or uids[at] != uid:  # adjacent messages in the batch are usually adjacent here
                at = bisect_left(uids, uid, at)
            if at == total:
                break
            if uids[at] != uid or numbers[at] >= number:
                continue  # removed meanwhile, or already up to date
            state = state_of(row)
            for store in pending:
                store.check(uid, states[at], state)
            counts[states[at]] -= 1
            counts[state] += 1
            states[at], numbers[at] = state, number
            if at < self._seen_before:
                self._seen_before = at
            changed.setdefault(number, []).append(uid)
            at += 1
        for number in sorted(changed):
            self.journal.write(number, array("I", changed[number]))

    def _remove(self, gone: list[Range]) -> None:
        """Remove messages in one pass over the columns."""
        cuts = positions(self.uids, len(self.uids), gone)
        if not cuts:
            return
        departed = Departed.of(self, cuts)
        self.step = self.step.leave(departed)
        self._counts.subtract(departed.states)
        self._seen_before = min(self._seen_before, cuts[0][0])
        self.uids = _without(self.uids, cuts)
        self.message_ids = _without(self.message_ids, cuts)
        self.states = _without(self.states, cuts)
        self.change_numbers = _without(self.change_numbers, cuts)
        if len(self.table) > 2 * len(self.uids) + 256 and not self.pending:
            self._renew_table()

    def _renew_table(self) -> None:
        """Drop states that no message has any more. Never call it while a STORE is pending, which holds indices."""
        old, self.table = self.table, StateTable()
        self.table.keywords = old.keywords
        moved = {
            state: self.table.index(int(old.flags[state].system), old.flags[state].keywords)
            for state in set(self.states)
        }
        self.states = array("I", map(moved.__getitem__, self.states))
        self._counts = Counter(self.states)


def _vanished(changes: Changes) -> list[Range]:
    return merge((first, min(last, MAX_NUMBER)) for first, last in changes.vanished)


def _without(column: array[int], cuts: Sequence[Range]) -> array[int]:
    """A copy of the column without half-open index ranges."""
    kept = array(column.typecode)
    start = 0
    for first, stop in cuts:
        kept.extend(column[start:first])
        start = stop
    kept.extend(column[start:])
    return kept
