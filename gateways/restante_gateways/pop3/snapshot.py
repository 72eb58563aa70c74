"""The maildrop as it stood at login (pure): message numbers, sizes, unique ids, and what the client wants deleted."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator

from restante_mail.ranges import compress


class NoSuchMessage(LookupError):
    """A number outside the maildrop, or of a message marked as deleted (RFC 1939 5)."""


class Snapshot:
    """Messages are numbered from 1 and keep their numbers; later ones have none (RFC 1939 5)."""

    __slots__ = (
        "_deleted",
        "_ids",
        "_seen",
        "_sizes",
        "_uids",
        "_validity",
        "deleted_count",
        "deleted_octets",
        "octets",
    )

    def __init__(
        self, uid_validity: int, uids: Iterable[int], message_ids: Iterable[int], size_octets: Iterable[int]
    ) -> None:
        """Columns in UID order."""
        self._validity = uid_validity
        self._uids, self._ids, self._sizes = array("L", uids), array("q", message_ids), array("Q", size_octets)
        if not len(self._uids) == len(self._ids) == len(self._sizes):
            raise ValueError("columns of unequal length")
        self._deleted, self._seen = bytearray(len(self._uids)), bytearray(len(self._uids))
        self.octets = sum(self._sizes)  # of all messages
        self.deleted_count = self.deleted_octets = 0

    def __len__(self) -> int:
        return len(self._uids)

    @property
    def left_count(self) -> int:
        """Messages not marked as deleted."""
        return len(self._uids) - self.deleted_count

    @property
    def left_octets(self) -> int:
        """Sum of their sizes."""
        return self.octets - self.deleted_octets

    def check(self, number: int) -> None:
        """Raises NoSuchMessage unless `number` is a message that is not marked as deleted."""
        if not 1 <= number <= len(self._uids) or self._deleted[number - 1]:
            raise NoSuchMessage

    def uid(self, number: int) -> int:
        """The UID that a message had in the Inbox at login."""
        return self._uids[number - 1]

    def message_id(self, number: int) -> int:
        """The id of a message, which it keeps wherever another session moves it."""
        return self._ids[number - 1]

    def size(self, number: int) -> int:
        """Octets of the message (RFC 1939 11), without the line end that RETR adds where the last line has none."""
        return self._sizes[number - 1]

    def unique_id(self, number: int) -> bytes:
        """The same for a message in every session, and never another's: UIDVALIDITY and UID (RFC 1939 7)."""
        return b"%d.%d" % (self._validity, self._uids[number - 1])

    def octets_of(self, first: int, end: int) -> int:
        """Sum of the sizes of messages `first` up to, and without, `end`."""
        return sum(self._sizes[first - 1 : end - 1])

    def delete(self, number: int) -> None:
        """Marks a message. Raises NoSuchMessage."""
        self.check(number)
        self._deleted[number - 1] = 1
        self.deleted_count += 1
        self.deleted_octets += self._sizes[number - 1]

    def see(self, number: int) -> None:
        """Notes that the client has retrieved a message."""
        self._seen[number - 1] = 1

    def reset(self) -> None:
        """Takes every deletion mark away."""
        self._deleted = bytearray(len(self._uids))
        self.deleted_count = self.deleted_octets = 0

    def sizes(self) -> Iterator[bytes]:
        """Lines of LIST."""
        deleted = self._deleted
        return (b"%d %d" % (n, size) for n, size in enumerate(self._sizes, 1) if not deleted[n - 1])

    def unique_ids(self) -> Iterator[bytes]:
        """Lines of UIDL."""
        deleted, validity = self._deleted, self._validity
        return (b"%d %d.%d" % (n, validity, uid) for n, uid in enumerate(self._uids, 1) if not deleted[n - 1])

    def deleted_uids(self) -> list[tuple[int, int]]:
        """UIDs of the messages marked as deleted, in runs that hold no other UID: what came later stays."""
        return compress(itertools.compress(self._uids, self._deleted))

    def seen_uids(self) -> list[tuple[int, int]]:
        """UIDs of the messages retrieved and kept, in runs that hold no other UID."""
        kept = (seen & ~deleted for seen, deleted in zip(self._seen, self._deleted, strict=True))
        return compress(itertools.compress(self._uids, kept))

    def following(self, number: int, limit: int) -> list[tuple[int, int]]:
        """UIDs of `number` and the messages after it, `limit` in all, without those marked as deleted.

        The runs span UIDs between neighbours, of messages that are gone, so that they are few.
        """
        kept = bytearray(not deleted for deleted in self._deleted[number - 1 : number - 1 + limit])
        uids = self._uids[number - 1 : number - 1 + limit]
        positions = compress(itertools.compress(itertools.count(), kept))
        return [(uids[first], uids[last]) for first, last in positions]
