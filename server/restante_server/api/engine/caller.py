"""Proof of identity as a value: which account, session or process makes a call."""

from __future__ import annotations

from dataclasses import dataclass

from restante_process.addresses import limit_key
from restante_server.db.turns import Party

NOBODY = "nobody:"  # begins the name of an unauthenticated client's party; its address follows


@dataclass(frozen=True, slots=True)
class Caller:
    """A proven caller: a session, a process with an identity of its own, a session behind such a process, or nobody.

    `identity` is "imap", "pop3", "smtp", "relay", "admin", or "" for a native client. Without a session
    `account_id`, `mailbox_id`, `session_id` and `scope` are 0.
    """

    identity: str = ""
    account_id: int = 0
    mailbox_id: int = 0
    scope: int = 0  # restante.v1.Scope
    session_id: int = 0
    credential_version: int = 0
    administrator: bool = False
    address: str = ""  # the account's, as spelled
    client_address: str = ""  # IP address as text, "" when unknown
    encrypted: bool = False  # the connection to this process is TLS, or does not leave the machine
    token: bytes = b""
    expires_at: int = 0  # of the token: microseconds since 1970-01-01 UTC

    @property
    def actor(self) -> str:
        """The name of the caller in request ids and in the log: "account:7", "gateway:smtp" or "nobody"."""
        if self.account_id:
            return f"account:{self.account_id}"
        return f"gateway:{self.identity}" if self.identity else "nobody"

    @property
    def party(self) -> Party:
        """The party that turns and bounds count the call for.

        It is the account, over all its sessions; the process; or, before login, the client's address: of IPv6 the /64,
        since one host owns that much.
        """
        if self.account_id:
            return Party(f"account:{self.account_id}")
        if self.identity:
            return Party(f"gateway:{self.identity}", many=True)
        return Party(NOBODY + (limit_key(self.client_address) if self.client_address else ""))
