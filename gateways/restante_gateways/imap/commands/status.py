"""STATUS: counts of any folder (RFC 3501 6.3.10; RFC 7162 3.1.7)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from restante_gateways.imap.commands.condstore import enable as enable_condstore
from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import LOGGED_IN, command
from restante_gateways.imap.grammar import encoder
from restante_gateways.imap.grammar.parser import ParseError, Parser
from restante_gateways.imap.grammar.responses import OK, Status, untagged
from restante_gateways.imap.grammar.search_keys import SearchUids
from restante_gateways.imap.grammar.sets import MAX_NUMBER
from restante_gateways.imap.values import Folder


class StatusItem(enum.Enum):
    """Items of STATUS (RFC 3501 6.3.10, RFC 7162 3.1.7)."""

    MESSAGES = b"MESSAGES"
    RECENT = b"RECENT"
    UIDNEXT = b"UIDNEXT"
    UIDVALIDITY = b"UIDVALIDITY"
    UNSEEN = b"UNSEEN"
    HIGHESTMODSEQ = b"HIGHESTMODSEQ"


_FIGURES: dict[StatusItem, Callable[[Folder], int]] = {
    StatusItem.MESSAGES: lambda folder: folder.message_count,
    StatusItem.UIDNEXT: lambda folder: folder.uid_next,
    StatusItem.UIDVALIDITY: lambda folder: folder.uid_validity,
    StatusItem.UNSEEN: lambda folder: folder.unread_count,
    StatusItem.HIGHESTMODSEQ: lambda folder: max(1, folder.change_number),
}


def status_items(p: Parser) -> tuple[StatusItem, ...]:
    """Parse a list such as `(MESSAGES UNSEEN)` of at least one item. Raises ParseError."""
    items: dict[StatusItem, None] = {}
    for word in p.parenthesised_words():
        try:
            items[StatusItem(word)] = None
        except ValueError:
            raise ParseError("unknown status item") from None
    if not items:
        raise ParseError("status item expected")
    return tuple(items)


async def status_line(s: Session, name: str, folder: Folder, items: tuple[StatusItem, ...]) -> bytes:
    """The STATUS response of a folder."""
    figures = []
    for item in items:
        figure = await _recent(s, folder) if item is StatusItem.RECENT else _FIGURES[item](folder)
        figures.append(b"%b %d" % (item.value, figure))
    return untagged(b"STATUS %b (%b)" % (encoder.mailbox_name(name), b" ".join(figures)))


async def _recent(s: Session, folder: Folder) -> int:
    """The number of messages not yet reported as \\Recent. Counting does not claim them (RFC 3501 6.3.10)."""
    first = s.unclaimed_uid(folder)
    if first >= folder.uid_next:
        return 0
    found = await s.account.messages.search(folder.place, [SearchUids(((first, MAX_NUMBER),))])
    return sum(last - lowest + 1 for lowest, last in found)


@command("STATUS", state=LOGGED_IN)
@dataclass(frozen=True)
class StatusOf:
    """Report counts of a folder. RFC 3501 6.3.10."""

    name: str
    items: tuple[StatusItem, ...]

    @classmethod
    def parse(cls, p: Parser) -> StatusOf:
        name = p.sp().mailbox_name()
        items = status_items(p.sp())
        p.end()
        return cls(name, items)

    async def run(self, s: Session) -> Status:
        folder = await s.describe(s.account.path(self.name), with_recent=StatusItem.RECENT in self.items)
        if StatusItem.HIGHESTMODSEQ in self.items:
            enable_condstore(s)
        s.client.write(await status_line(s, self.name, folder, self.items))
        return OK("STATUS completed.")
