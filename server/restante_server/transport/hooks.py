"""The seam of the metrics: the transport reports here; the default does nothing."""

from __future__ import annotations

from restante_server.transport.states import State


class Figures:
    """Called once for each step that has become durable, on the event loop."""

    def taken(self, kind: str, seconds: float) -> None:
        """A message is ours. `kind` is acceptance or submission; `seconds` from its last octet to the commit."""

    def settled(self, state: State, recipients: int) -> None:
        """An attempt ended so for these recipients; PENDING: put off."""

    def delivered(self, recipients: int, seconds: float) -> None:
        """Mail lies in the mailboxes of these recipients, so long after the message became ours."""
