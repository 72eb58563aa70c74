"""Quota: GETQUOTA, GETQUOTAROOT (RFC 9208). One root, the mailbox; only administrators set its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante.v1 import mailbox_pb2, methods
from restante_gateways.imap.grammar import encoder
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import NO, OK, Status, untagged
from restante_gateways.imap.table import LOGGED_IN, command

if TYPE_CHECKING:
    from restante_gateways.imap.session import Session

_ROOT = b""


async def _quota(s: Session) -> bytes:
    """Used and allowed, in units of 1,024 octets (RFC 9208 5.1); a mailbox without a limit has no resources to tell."""
    mailbox = (await s.call(methods.GET_MAILBOX, mailbox_pb2.GetMailboxRequest())).mailbox
    resources = b""
    if mailbox.HasField("quota_octets"):
        resources = b"STORAGE %d %d" % (-(-mailbox.used_octets // 1024), mailbox.quota_octets // 1024)
    return untagged(b"QUOTA %b (%b)" % (encoder.string(_ROOT), resources))


@command("GETQUOTA", state=LOGGED_IN, capability=("QUOTA", "QUOTA=RES-STORAGE"))
@dataclass(frozen=True)
class GetQuota:
    """Tell the limits of a quota root. RFC 9208 4.1.1."""

    root: bytes

    @classmethod
    def parse(cls, p: Parser) -> GetQuota:
        root = p.sp().astring()
        p.end()
        return cls(root)

    async def run(self, s: Session) -> Status:
        if self.root != _ROOT:
            return NO("No such quota root.", b"NONEXISTENT")
        s.write(await _quota(s))
        return OK("Told.")


@command("GETQUOTAROOT", state=LOGGED_IN)
@dataclass(frozen=True)
class GetQuotaRoot:
    """Tell the quota root of a folder, and its limits. RFC 9208 4.1.2."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> GetQuotaRoot:
        name = p.sp().mailbox_name()
        p.end()
        return cls(name)

    async def run(self, s: Session) -> Status:
        await s.folder(self.name)
        s.write(untagged(b"QUOTAROOT %b %b" % (encoder.mailbox_name(self.name), encoder.string(_ROOT))))
        s.write(await _quota(s))
        return OK("Told.")
