"""GETQUOTA and GETQUOTAROOT (RFC 9208). The mailbox is the only quota root; only administrators set its limit."""

from __future__ import annotations

from dataclasses import dataclass

from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.table import LOGGED_IN, command, extension
from restante_gateways.imap.grammar import encoder
from restante_gateways.imap.grammar.parser import Parser
from restante_gateways.imap.grammar.responses import NO, OK, Status, untagged

_ROOT = b""


async def _quota(s: Session, mailbox_id: int) -> bytes:
    """The QUOTA response: used and allowed units of 1,024 octets (RFC 9208 5.1), or no resource without a limit."""
    usage, resources = await s.account.folders.usage(mailbox_id), b""
    if usage.quota_octets is not None:
        resources = b"STORAGE %d %d" % (-(-usage.used_octets // 1024), usage.quota_octets // 1024)
    return untagged(b"QUOTA %b (%b)" % (encoder.string(_ROOT), resources))


extension("QUOTA")
extension("QUOTA=RES-STORAGE")


@command("GETQUOTA", state=LOGGED_IN)
@dataclass(frozen=True)
class GetQuota:
    """Report usage and limit of a quota root. RFC 9208 4.1.1."""

    root: bytes

    @classmethod
    def parse(cls, p: Parser) -> GetQuota:
        root = p.sp().astring()
        p.end()
        return cls(root)

    async def run(self, s: Session) -> Status:
        if self.root != _ROOT:
            return NO("The quota root does not exist.", b"NONEXISTENT")
        s.client.write(await _quota(s, s.account.mailbox_id))
        return OK("GETQUOTA completed.")


@command("GETQUOTAROOT", state=LOGGED_IN)
@dataclass(frozen=True)
class GetQuotaRoot:
    """Report the quota root of a folder with its usage and limit. RFC 9208 4.1.2."""

    name: str

    @classmethod
    def parse(cls, p: Parser) -> GetQuotaRoot:
        name = p.sp().mailbox_name()
        p.end()
        return cls(name)

    async def run(self, s: Session) -> Status:
        folder = await s.account.folder(self.name)
        s.client.write(untagged(b"QUOTAROOT %b %b" % (encoder.mailbox_name(self.name), encoder.string(_ROOT))))
        s.client.write(await _quota(s, folder.place.mailbox_id))
        return OK("GETQUOTAROOT completed.")
