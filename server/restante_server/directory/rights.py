"""Rights in mailboxes: the one place that decides who may do what where (docs/design.md "Places and rights").

`decide` is the only way from a mailbox that somebody names to a Place, and store functions take nothing else. It reads
the rights in the transaction that uses them, so that a right lost before that transaction is never used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sqlalchemy import Connection, and_, bindparam, select

from restante.errors import FolderNotFound, MailboxNotFound
from restante_server.db import prepared
from restante_server.db.effects import Topic, events
from restante_server.db.schema import folder, mailbox

SYSTEM: Final = -1
"""The viewer of transport and upkeep, which act for no account. No account has this id."""

RIGHTS: Final[Topic[set[int]]] = Topic("rights", set)
"""An event: the mailboxes whose rights have changed."""


class Rights(Enum):
    """The rights in a place. Each value covers every folder of the mailbox."""

    OWNER = "everything in the account's own mailbox"
    SYSTEM = "everything in any mailbox, for transport and upkeep"


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox or one of its folders, with the rights in it. It holds for the transaction that decided it."""

    mailbox_id: int
    folder_id: int  # 0: the mailbox as a whole
    viewer: int  # account id, or SYSTEM
    rights: Rights


@dataclass(frozen=True, slots=True)
class Claim:
    """A mailbox or folder that a caller names. Each transaction decides it anew: a Claim outlives them, a Place does
    not."""

    viewer: int  # account id
    mailbox_id: int
    folder_id: int = 0  # 0: the mailbox as a whole

    def place(self, tx: Connection) -> Place:
        """The Place in this transaction. Raises as `decide`."""
        return decide(tx, self.viewer, self.mailbox_id, self.folder_id)

    def at(self, folder_id: int) -> Claim:
        """The claim on a folder of the same mailbox; 0: on the mailbox as a whole."""
        return Claim(self.viewer, self.mailbox_id, folder_id)


_mailbox = select(mailbox.c.account_id).where(mailbox.c.mailbox_id == bindparam("mailbox"))
_folder = (
    select(mailbox.c.account_id, folder.c.folder_id)
    .join_from(
        mailbox,
        folder,
        and_(folder.c.mailbox_id == mailbox.c.mailbox_id, folder.c.folder_id == bindparam("folder")),
        isouter=True,
    )
    .where(mailbox.c.mailbox_id == bindparam("mailbox"))
)

# For the notifier, which compares the claims of all watchers.
_owners = (
    select(mailbox.c.mailbox_id, mailbox.c.account_id)
    .where(mailbox.c.mailbox_id.in_(bindparam("mailboxes", expanding=True)))
    .execution_options(across_mailboxes=True)
)


def decide(tx: Connection, viewer: int, mailbox_id: int, folder_id: int = 0) -> Place:
    """The place of a viewer in a mailbox, or in one of its folders.

    One statement reads the rights, and whether the folder exists. Raises MailboxNotFound for a mailbox that does not
    exist and for one in which the viewer has no right, so that both answer alike; else FolderNotFound.
    """
    if folder_id:
        found = prepared.first(tx, _folder, {"mailbox": mailbox_id, "folder": folder_id})
    else:
        found = prepared.first(tx, _mailbox, {"mailbox": mailbox_id})
    if found is None or viewer not in (SYSTEM, found[0]):
        raise MailboxNotFound(mailbox_id=mailbox_id)
    if folder_id and found[1] is None:
        raise FolderNotFound(folder_id=folder_id)
    return Place(mailbox_id, folder_id, viewer, Rights.SYSTEM if viewer == SYSTEM else Rights.OWNER)


def refused(tx: Connection, claims: Collection[Claim]) -> set[Claim]:
    """Those of the claims whose viewer has no right in the mailbox any more. One statement for all of them."""
    wanted = sorted({claim.mailbox_id for claim in claims})
    owners = {row.mailbox_id: row.account_id for row in tx.execute(_owners, {"mailboxes": wanted})}
    return {claim for claim in claims if owners.get(claim.mailbox_id) != claim.viewer}


def within(tx: Connection, place: Place, folder_id: int) -> Place:
    """The same viewer's place in a folder that a request names beside `place`. Raises FolderNotFound."""
    if folder_id == place.folder_id:
        return place
    if not folder_id:
        raise FolderNotFound(folder_id=folder_id)
    return decide(tx, place.viewer, place.mailbox_id, folder_id)


def across(place: Place, folder_ids: Iterable[int]) -> dict[int, Place]:
    """The same viewer's place in each folder in which this transaction has found messages.

    Every value of Rights covers all folders of a mailbox, so nothing is read.
    """
    return {folder_id: Place(place.mailbox_id, folder_id, place.viewer, place.rights) for folder_id in folder_ids}


def system(mailbox_id: int, folder_id: int = 0) -> Place:
    """The place of transport and upkeep, which have found the mailbox and the folder in the store themselves."""
    return Place(mailbox_id, folder_id, SYSTEM, Rights.SYSTEM)


def changed(tx: Connection, mailbox_id: int) -> None:
    """Note in the effects that rights in the mailbox have changed, so that somebody may have lost one."""
    events(tx, RIGHTS).add(mailbox_id)
