"""The interface through which the transport reports its metrics; the default does nothing."""

from __future__ import annotations

from restante_server.transport.states import State


class Figures:
    """The transport calls a method once for each durable step, on the event loop."""

    def taken(self, kind: str, seconds: float) -> None:
        """A message was accepted. `kind` is acceptance or submission; `seconds` from its last octet to the commit."""

    def checked(self, check: str, result: str) -> None:
        """A message with this result of a check was accepted."""

    def judged(self, check: str, treatment: str) -> None:
        """A check has put a message into Junk for some recipient (`junk`), or has refused it (`refuse`)."""

    def greylisted(self, outcome: str) -> None:
        """Greylisting has decided about a recipient; see `greylisting.policy.Outcome`."""

    def settled(self, state: State, recipients: int) -> None:
        """A relay's attempt ended in this state for so many recipients; PENDING: postponed."""

    def delivered(self, recipients: int, seconds: float) -> None:
        """So many recipients got the message in their mailboxes, `seconds` after its acceptance."""
