"""LMTP: SMTP's commands from a trusted server, with a final reply for each recipient (RFC 2033).

The listener admits only trusted servers. The recipients are verified at RCPT as on an mx listener; the core judges them
again when the content is complete, and its verdicts are the final replies.
"""

from __future__ import annotations

from restante_gateways.smtp.command_loop import Run
from restante_gateways.smtp.replies import Reply
from restante_gateways.smtp.session import COMMANDS, SmtpSession

NOT_IN_LMTP = frozenset(("EHLO", "HELO", "AUTH"))  # RFC 2033 4.1


class LmtpSession(SmtpSession):
    """The state and the commands of one connection of a trusted server."""

    commands = COMMANDS.replace("EHLO HELO", "LHLO")
    need_hello = Reply(503, "5.5.1", "Send LHLO first")

    def _command(self, name: str) -> Run | None:
        return None if name in NOT_IN_LMTP else super()._command(name)

    async def smtp_LHLO(self, argument: bytes) -> Reply:
        """LHLO: set the client's name and list the current extensions. RFC 2033 4.1."""
        return await self.smtp_EHLO(argument)
