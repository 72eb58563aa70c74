"""Turning an envelope into recipient rows: with a mailbox or a destination, an alias with its targets, or failed.

A mailbox and a foreign address each get one copy of a message, however many recipients resolve to them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from restante.errors import InvalidAddress
from restante_mail.envelope import parameters
from restante_server.directory import addresses
from restante_server.directory.lookup import AddressKind, Resolution
from restante_server.transport.records import Planned, Recipient
from restante_server.transport.states import Notify, State, wants

LOOP = ("5.4.6", "the message was delivered to this address before: it is in a mail loop")  # RFC 3463 3.5
UNKNOWN = "5.1.1"  # RFC 3463 3.2
NOT_OURS = ("5.7.1", "the domain is not local, and this server does not relay for this sender")
TOO_MANY = ("5.3.4", "the message has too many recipients")
SHOWN_TARGETS = 10


@dataclass
class _Plan:
    limit: int
    may_relay: bool
    promised: bool
    had: Collection[str]
    rows: list[Planned] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)

    def add(self, resolution: Resolution, who: Recipient, *, expanded: bool) -> None:
        """Add the row of a recipient that is not an alias."""
        path, key = _spelled(resolution.address)
        mailbox_id, destination = 0, ""
        if key and key in self.had:
            return self._fail(path, who, *LOOP)
        if resolution.kind is AddressKind.LOCAL:
            mailbox_id = resolution.mailbox_id
        elif resolution.kind is AddressKind.UNKNOWN:
            return self._fail(path, who, UNKNOWN, resolution.problem or "no such recipient")
        elif not (self.may_relay or expanded):
            return self._fail(path, who, *NOT_OURS)
        elif key in self.foreign:
            return None
        else:
            self.foreign.add(key)
            destination = addresses.parse(resolution.address).ascii_domain
        self.rows.append(
            Planned(
                path,
                notify=who.notify,
                original_recipient=who.original_recipient,
                mailbox_id=mailbox_id,
                destination=destination,
                promised=self.promised and not expanded,
                junk=who.junk,
                remark=who.remark,
            )
        )
        return None

    def expand(self, resolution: Resolution, who: Recipient) -> None:
        """Add the rows of an alias: one for the alias, already settled, and one for each target."""
        path, key = _spelled(resolution.address)
        targets = resolution.targets
        if key in self.had:
            return self._fail(path, who, *LOOP)
        if len(self.rows) + len(targets) >= self.limit:
            return self._fail(path, who, *TOO_MANY)
        several = len(targets) > 1
        shown = ", ".join(target.address for target in targets[:SHOWN_TARGETS])
        self.rows.append(
            Planned(
                path,
                State.EXPANDED,
                who.notify,
                who.original_recipient,
                status="2.1.5",
                diagnostic=f"to {shown}" + (", ..." if len(targets) > SHOWN_TARGETS else ""),
                reported=several and wants(who.notify, Notify.SUCCESS),
            )
        )
        # With several targets the sender gets one report "expanded" and none of success. RFC 3461 5.2.7.3
        notify = _without_success(who.notify) if several else who.notify
        original = who.original_recipient or parameters.original_recipient(path)
        for target in targets:
            self.add(target, Recipient(target.address, notify, original, who.junk, who.remark), expanded=True)
        return None

    def _fail(self, path: str, who: Recipient, status: str, diagnostic: str) -> None:
        self.rows.append(
            Planned(
                path,
                State.FAILED,
                who.notify,
                who.original_recipient,
                status=status,
                diagnostic=diagnostic,
            )
        )


def plan(
    resolutions: Sequence[Resolution],
    recipients: Sequence[Recipient],
    *,
    may_relay: bool,
    promised: bool,
    had: Collection[str] = (),
    limit: int = 5_000,
) -> tuple[Planned, ...]:
    """The rows of a message's recipients, in order, each alias before its targets.

    `promised`: the gateway accepted every recipient at RCPT, when its mailbox had room. `had` holds the keys of the
    addresses that the message has been delivered to before. Without `may_relay` a foreign recipient fails, but a
    foreign target of a local alias does not.
    """
    made = _Plan(limit, may_relay, promised, had)
    named: set[str] = set()
    for resolution, who in zip(resolutions, recipients, strict=True):
        key = key_of(resolution.address)
        if key in named:
            continue
        named.add(key)
        if resolution.kind is AddressKind.ALIAS:
            made.expand(resolution, who)
        else:
            made.add(resolution, who, expanded=False)
    return tuple(made.rows)


def loops_everywhere(rows: Sequence[Planned]) -> bool:
    """Whether no recipient would get the message and at least one fails for a loop; the core then refuses the message.

    Both Delivered-To and the reverse-path are easily forged. If the core accepted such a message, its failure report
    would carry the message to an address that never asked for it.
    """
    return not any(row.state is State.PENDING for row in rows) and any(row.status == LOOP[0] for row in rows)


def key_of(path: str) -> str:
    """The key under which a path is compared; a string that is no address stands for itself."""
    return _spelled(path)[1] or path.casefold()


def _spelled(address: str) -> tuple[str, str]:
    """(the address as a path, its key); the key is "" for a string that is no address, such as a bare `postmaster`."""
    try:
        parsed = addresses.parse(address)
    except InvalidAddress:
        return address, ""
    return str(parsed), parsed.key


def _without_success(notify: int) -> int:
    left = notify & ~(1 << Notify.SUCCESS)
    return left if left or not notify else 1 << Notify.NEVER
