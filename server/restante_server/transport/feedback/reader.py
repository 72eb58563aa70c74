"""The reader of one kind of report: it finds reports of its kind in a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from restante_mail.mime.parts import Part
from restante_server.transport.feedback.archive import Kind, NewReport

__all__ = ["Letter", "Reader"]


class Letter(NamedTuple):
    """A message in a mailbox that receives reports."""

    octets: bytes
    tree: Part
    checks: bytes  # serialised restante.v1.MessageChecks; empty: not checked


class Reader(NamedTuple):
    """One kind of report. `received.READERS` lists all; the first one that claims a part reads it."""

    kind: Kind
    name: str  # in logs, with its article
    candidates: Callable[[Part], list[Part]]
    """The parts of a message's tree that may be a report of the kind; a multipart may be one as a whole."""
    read: Callable[[Letter, Part], NewReport]
    """The report in a candidate. Raises BadReport with the reason."""
