"""A model of one folder that many sessions change at once, which finds answers that cannot be true. *Pure.*

Times are those of a monotonic clock. A change lasts from the sending of its command to the tagged answer; a command
sent before that answer may show the change or not. A session without a report of a removal continues to read the
message (RFC 2180 4.1.2), with the flags at its removal.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

FLAGS = (b"\\Seen", b"\\Answered", b"\\Flagged", b"\\Draft", b"\\Deleted", b"$Blue", b"$Red")
TEXT_OCTETS = 200  # kept of a message's body
EXAMPLES = 20  # of wrong answers in the report


@dataclass(slots=True)
class Write:
    """One change of a flag of a message."""

    began: float
    ended: float
    value: bool
    by: int  # the session's number


@dataclass(slots=True)
class Message:
    """One message. Its key is empty until its APPEND has been answered."""

    key: bytes = b""
    size_octets: int = 0
    digest: bytes = b""
    text: bytes = b""  # the first octets of its body
    removal_began: float = math.inf  # it may have been removed since this moment
    there_since: float = math.inf  # the server must report it to every session since this moment
    writes: dict[bytes, list[Write]] = field(default_factory=dict)


class Folder:
    """The folder, and the count of wrong answers."""

    def __init__(self) -> None:
        self.messages: dict[int, Message] = {}
        self.alive: set[int] = set()  # acknowledged, without a removal in progress
        self._marked: set[int] = set()  # perhaps \\Deleted, without a removal in progress
        self.wrong: Counter[str] = Counter()
        self.examples: list[str] = []
        self.judged: Counter[str] = Counter()
        self._expunging = 0

    def blame(self, kind: str, text: str) -> None:
        """Count a wrong answer."""
        self.wrong[kind] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{kind}: {text}")

    def expect(self, holds: bool, kind: str, text: str) -> None:
        """Check one answer, and count it as wrong unless `holds`."""
        self.judged[kind] += 1
        if not holds:
            self.blame(kind, text)

    # --- changes ---

    def appended(
        self, uid: int, key: bytes, octets: bytes, flags: Iterable[bytes], began: float, now: float, by: int
    ) -> None:
        """Add a message whose APPEND was answered OK."""
        message = self.messages.setdefault(uid, Message())
        self.expect(not message.key, "uid given twice", f"{uid} for {key!r} and {message.key!r}")
        message.key, message.size_octets, message.digest = key, len(octets), hashlib.sha256(octets).digest()
        message.text = octets.partition(b"\r\n\r\n")[2][:TEXT_OCTETS]
        message.there_since = now
        if message.removal_began == math.inf:
            self.alive.add(uid)
        given = set(flags)
        for flag in FLAGS:
            message.writes.setdefault(flag, []).insert(0, Write(began, now, flag in given, by))

    def begin_store(self, uids: Iterable[int | None], values: dict[bytes, bool], now: float, by: int) -> list[Write]:
        """Begin the writes of a STORE, or of a FETCH that sets \\Seen, when it is sent. `end_store` ends them."""
        begun: list[Write] = []
        for uid in uids:
            if uid is None:
                continue
            message = self.messages.setdefault(uid, Message())
            for flag, value in values.items():
                write = Write(now, math.inf, value, by)
                message.writes.setdefault(flag, []).append(write)
                begun.append(write)
            if values.get(b"\\Deleted"):
                self._mark_deleted(uid, now)
        return begun

    @staticmethod
    def end_store(begun: list[Write], now: float) -> None:
        """End the writes of an answered command."""
        for write in begun:
            write.ended = now

    def _mark_deleted(self, uid: int, began: float) -> None:
        if self._expunging:
            self.begin_removal([uid], began)
        elif self.messages[uid].removal_began == math.inf:
            self._marked.add(uid)

    def begin_expunge(self, now: float) -> None:
        """Begin an EXPUNGE when it is sent. It may remove every message that is \\Deleted before its answer."""
        self._expunging += 1
        self.begin_removal(set(self._marked), now)

    def end_expunge(self) -> None:
        """End an answered EXPUNGE."""
        self._expunging -= 1

    def begin_removal(self, uids: Iterable[int | None], now: float) -> None:
        """Begin the removal of messages when MOVE or a deletion by the API is sent."""
        for uid in uids:
            if uid is not None:
                message = self.messages.setdefault(uid, Message())
                message.removal_began = min(message.removal_began, now)
                self.alive.discard(uid)
                self._marked.discard(uid)

    # --- possible answers ---

    def known(self, uid: int | None) -> Message | None:
        """The message of a UID; None until its APPEND has been answered."""
        message = self.messages.get(uid) if uid is not None else None
        return message if message is not None and message.key else None

    def removing(self, uid: int | None, now: float) -> bool:
        """Whether it may have been removed."""
        message = self.known(uid)
        return message is None or message.removal_began <= now

    def may_be(self, uid: int, flag: bytes, value: bool, since: float, now: float, by: int) -> bool:
        """Whether this value is possible in the answer to a command that the session sent at `since`."""
        message = self.messages[uid]
        writes = message.writes.get(flag, [])
        candidates = [write for write in writes if write.value is value and write.began < now]
        overruled = [
            write
            for write in writes
            if write.value is not value
            and write.ended < message.removal_began  # a later write may have had no effect
            and write.ended < since
        ]
        return any(all(other.began <= write.ended for other in overruled) for write in candidates)
