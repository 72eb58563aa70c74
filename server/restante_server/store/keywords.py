"""Keywords of messages, each in the spelling in which the mailbox first saw it.

Letter case never matters (RFC 9051 2.3.2). A mailbox has at most MOST_KEYWORDS different keywords. A new one at that
limit removes those that no message has any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from restante.errors import InvalidArgument, LimitExceeded, TooComplex
from restante_server.db import prepared
from restante_server.db.schema import keyword, message
from restante_server.directory.rights import Place

MOST_KEYWORDS: Final = 200  # different keywords in a mailbox, and so the most that a message can have
LONGEST_OCTETS: Final = 64
_ATOM = re.compile(r'[^\x00-\x20(){%*"\\\]\x7f-\U0010ffff]+')  # RFC 3501 9, flag-keyword

_spelling = select(keyword.c.keyword).where(
    keyword.c.mailbox_id == bindparam("mailbox"), keyword.c.keyword_key == bindparam("lower")
)
_count = select(func.count()).select_from(keyword).where(keyword.c.mailbox_id == bindparam("mailbox"))
_all = select(keyword.c.keyword_key).where(keyword.c.mailbox_id == bindparam("mailbox"))
_used = (
    select(message.c.keywords).where(message.c.mailbox_id == bindparam("mailbox"), message.c.keywords != "").distinct()
)
_remove = delete(keyword).where(
    keyword.c.mailbox_id == bindparam("mailbox"), keyword.c.keyword_key == bindparam("lower")
)
_add = insert(keyword)


def spell(tx: Connection, place: Place, wanted: Iterable[str], keep: Iterable[str] = ()) -> frozenset[str]:
    """The keywords in the mailbox's spelling; adds new ones to the mailbox.

    Those in `keep` make no room, since messages will have them that are not in the store yet. Raises InvalidArgument,
    TooComplex, LimitExceeded.
    """
    spelled: set[str] = set()
    for name in valid(wanted):
        lower = name.lower()
        known = prepared.first(tx, _spelling, {"mailbox": place.mailbox_id, "lower": lower})
        if known is None:
            _make_room(tx, place, spelled.union(keep))
            prepared.run_many(tx, _add, [{"mailbox_id": place.mailbox_id, "keyword_key": lower, "keyword": name}])
        spelled.add(name if known is None else known[0])
    return frozenset(spelled)


def known(tx: Connection, place: Place, wanted: Iterable[str]) -> frozenset[str]:
    """The wanted keywords that the mailbox has, in its spelling. Raises InvalidArgument, TooComplex."""
    looks = [{"mailbox": place.mailbox_id, "lower": name.lower()} for name in valid(wanted)]
    return frozenset(row[0] for row in prepared.first_of_each(tx, _spelling, looks) if row is not None)


def column(spelled: Iterable[str]) -> str:
    """A set of keywords in the form of the column message.keywords."""
    names = sorted(set(spelled), key=str.lower)
    return f" {' '.join(names)} " if names else ""


def names(stored: str) -> Sequence[str]:
    """The keywords in a value of the column message.keywords, ascending."""
    return stored.split()


def valid(wanted: Iterable[str]) -> dict[str, None]:
    """The keywords, each once. Raises InvalidArgument for one that is no keyword, TooComplex for too many."""
    given = dict.fromkeys(wanted)
    if len(given) > MOST_KEYWORDS:
        raise TooComplex(limit=MOST_KEYWORDS, value=len(given))
    for name in given:
        if not 0 < len(name) <= LONGEST_OCTETS or not _ATOM.fullmatch(name):
            raise InvalidArgument(
                field="keywords", problem=f"must be atoms of 1 to {LONGEST_OCTETS} octets (RFC 3501 9)"
            )
    return given


def _make_room(tx: Connection, place: Place, keep: set[str]) -> None:
    if tx.execute(_count, {"mailbox": place.mailbox_id}).scalar_one() < MOST_KEYWORDS:
        return
    used = {
        name.lower() for stored in tx.execute(_used, {"mailbox": place.mailbox_id}).scalars() for name in names(stored)
    }
    used.update(name.lower() for name in keep)
    unused = [lower for lower in tx.execute(_all, {"mailbox": place.mailbox_id}).scalars() if lower not in used]
    if not unused:
        raise LimitExceeded(limit="keywords", value=MOST_KEYWORDS)
    tx.execute(_remove, [{"mailbox": place.mailbox_id, "lower": lower} for lower in unused])
