"""The maildrop at the time of login: message numbers, sizes, unique ids, and deletion marks. *Pure.*"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator

from restante_mail.ranges import compress


class NoSuchMessage(LookupError):
    """The number is outside the maildrop, or its message is marked as deleted (RFC 1939 5)."""


class Snapshot:
    """The messages of the maildrop, with fixed numbers from 1. Messages that arrive later have none (RFC 1939 5)."""

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
        """The columns are in UID order. Raises ValueError for unequal lengths."""
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
        """Total size of the messages not marked as deleted."""
        return self.octets - self.deleted_octets

    def check(self, number: int) -> None:
        """Raise NoSuchMessage unless `number` is a message that is not marked as deleted."""
        if not 1 <= number <= len(self._uids) or self._deleted[number - 1]:
            raise NoSuchMessage

    def uid(self, number: int) -> int:
        """The UID of a message in the Inbox at login."""
        return self._uids[number - 1]

    def message_id(self, number: int) -> int:
        """The id of a message, which stays the same when another session moves it."""
        return self._ids[number - 1]

    def size(self, number: int) -> int:
        """Octets of the message (RFC 1939 11), without the CRLF that RETR adds after an unfinished last line."""
        return self._sizes[number - 1]

    def unique_id(self, number: int) -> bytes:
        """The message's unique id in every session: UIDVALIDITY and UID (RFC 1939 7)."""
        return b"%d.%d" % (self._validity, self._uids[number - 1])

    def octets_of(self, first: int, end: int) -> int:
        """Total size of the messages from `first` to before `end`."""
        return sum(self._sizes[first - 1 : end - 1])

    def delete(self, number: int) -> None:
        """Mark a message as deleted. Raises NoSuchMessage."""
        self.check(number)
        self._deleted[number - 1] = 1
        self.deleted_count += 1
        self.deleted_octets += self._sizes[number - 1]

    def see(self, number: int) -> None:
        """Record that the client has retrieved a message."""
        self._seen[number - 1] = 1

    def reset(self) -> None:
        """Remove all deletion marks."""
        self._deleted = bytearray(len(self._uids))
        self.deleted_count = self.deleted_octets = 0

    def sizes(self) -> Iterator[bytes]:
        """The lines of LIST."""
        deleted = self._deleted
        return (b"%d %d" % (n, size) for n, size in enumerate(self._sizes, 1) if not deleted[n - 1])

    def unique_ids(self) -> Iterator[bytes]:
        """The lines of UIDL."""
        deleted, validity = self._deleted, self._validity
        return (b"%d %d.%d" % (n, validity, uid) for n, uid in enumerate(self._uids, 1) if not deleted[n - 1])

    def deleted_uids(self) -> list[tuple[int, int]]:
        """UIDs of the messages marked as deleted, in ranges without other UIDs, so that no other message goes."""
        return compress(itertools.compress(self._uids, self._deleted))

    def seen_uids(self) -> list[tuple[int, int]]:
        """UIDs of the messages retrieved and not deleted, in ranges without other UIDs."""
        kept = (seen & ~deleted for seen, deleted in zip(self._seen, self._deleted, strict=True))
        return compress(itertools.compress(self._uids, kept))

    def following(self, number: int, limit: int) -> list[tuple[int, int]]:
        """UID ranges of `number` and the messages after it, `limit` in all, without those marked as deleted.

        The ranges include UIDs between adjacent messages, which have no message, so that they are few.
        """
        kept = bytearray(not deleted for deleted in self._deleted[number - 1 : number - 1 + limit])
        uids = self._uids[number - 1 : number - 1 + limit]
        positions = compress(itertools.compress(itertools.count(), kept))
        return [(uids[first], uids[last]) for first, last in positions]
