"""The proven caller of a call: an account in a session, a process, or nobody."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from restante_process.addresses import limit_key
from restante_server.db.turns import Party

ANONYMOUS = "anonymous:"  # prefix of an unauthenticated client's party name, before its address


@dataclass(frozen=True)
class Caller:
    """A session, a process with an identity, a session behind such a process, or nobody.

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
    address: str = ""  # the account's mail address, as spelled
    client_address: str = ""  # IP address as text, "" when unknown
    encrypted: bool = False  # the connection to this process uses TLS or does not leave the machine
    token: bytes = b""
    expires_at: int = 0  # end of the token, in microseconds since 1970-01-01 UTC

    @cached_property
    def actor(self) -> str:
        """The caller's name beside request ids and in the log: "account:7", "gateway:smtp" or "nobody"."""
        if self.account_id:
            return f"account:{self.account_id}"
        return f"gateway:{self.identity}" if self.identity else "nobody"

    @cached_property
    def party(self) -> Party:
        """The party whose turns and limits the call counts for.

        It is the account over all its sessions, or the process, or, before login, the client's address. An IPv6
        address counts by its /64, because one host owns that much.
        """
        if self.account_id:
            return Party(f"account:{self.account_id}")
        if self.identity:
            return Party(f"gateway:{self.identity}", many=True)
        return Party(ANONYMOUS + (limit_key(self.client_address) if self.client_address else ""))
