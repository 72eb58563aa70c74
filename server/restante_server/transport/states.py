"""The states of a recipient. *Pure.*

    SCHEDULED --send time--> PENDING --lease--> LEASED --outcome--> RELAYED | FAILED | PENDING (later)
    PENDING (local) --delivery--> DELIVERED | FAILED          LEASED --lease lapses--> PENDING
    PENDING | SCHEDULED | HELD --owner or administrator--> DISCARDED  (an alias) --> EXPANDED
    PENDING | SCHEDULED --hold--> HELD --release--> PENDING | SCHEDULED

The core is responsible for the recipient until a final state, also while a relay holds a lease. The numbers are those
of the contract's RecipientState, NotifyCondition and DsnReturn.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """The state of a recipient."""

    SCHEDULED = 1
    PENDING = 2
    LEASED = 3
    DELIVERED = 4
    RELAYED = 5
    EXPANDED = 6
    DISCARDED = 7
    FAILED = 8
    HELD = 9


FINAL = frozenset({State.DELIVERED, State.RELAYED, State.EXPANDED, State.DISCARDED, State.FAILED})
WAITING = frozenset({State.SCHEDULED, State.PENDING, State.LEASED, State.HELD})


class Notify(IntEnum):
    """The conditions of the NOTIFY parameter (RFC 3461 4.1). A set of them is the sum of 1 << value; 0: not given."""

    NEVER = 1
    SUCCESS = 2
    FAILURE = 3
    DELAY = 4


class Return(IntEnum):
    """The part of the message that a report returns (RFC 3461 4.3)."""

    UNSPECIFIED = 0
    FULL = 1
    HEADERS = 2


def wants(notify: int, condition: Notify) -> bool:
    """Whether the sender wants a report on this condition. Without NOTIFY: failure and delay (RFC 3461 5.2.1)."""
    if not notify:
        return condition in (Notify.FAILURE, Notify.DELAY)
    return bool(notify & 1 << condition)
