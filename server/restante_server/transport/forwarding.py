"""Mail from elsewhere that an alias sends on: its reverse-path is rewritten, and reports come back (docs/design.md
"Forwarding").

The rewritten path is made when a relay leases the message. The queue keeps the original path, to which this server's
own reports go. A rewritten path of ours is a recipient only for mail from the null path, that is, for reports. It
stands for the original path as an alias stands for its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from restante.errors import InvalidAddress
from restante_mail.envelope import srs
from restante_mail.envelope.srs import BadSrs, Rewriter
from restante_server.db.schema import domain
from restante_server.directory import addresses, lasting_secrets
from restante_server.directory.lookup import AddressKind, Resolution, resolve_many

__all__ = ["Forwarded", "Forwarding", "is_rewritten"]

SECRET = "rewritten reverse-paths"  # noqa: S105 - the name of one
SECOND = 1_000_000  # microseconds

_ours = select(domain.c.ascii_name).where(domain.c.ascii_name.in_(bindparam("names", expanding=True)))


class Forwarded(NamedTuple):
    """A message that is sent on: its reverse-path and the domain of the alias."""

    reverse_path: str
    forwarder: str


def is_rewritten(path: str) -> bool:
    """Whether a path has the form of a rewritten one, of whatever domain."""
    return srs.is_rewritten(path.removeprefix('"'))


class Forwarding:
    """Rewrites reverse-paths with the secret of the store. Use it on any thread."""

    def __init__(self, domain: str = "") -> None:
        """`domain` is that of rewritten paths; "": the alias's."""
        self._domain = domain
        self._rewriter: Rewriter | None = None  # with the store's secret, which never changes

    def reverse_paths(self, tx: Connection, messages: Sequence[Forwarded], now: int) -> list[str]:
        """The reverse-paths with which messages are sent, in order, in a transaction that may write.

        A null path stays, a path of a domain of ours, and one that would become too long.
        """
        names = {_domain_of(one.reverse_path) for one in messages if one.forwarder and one.reverse_path} - {""}
        foreign = names - set(tx.scalars(_ours, {"names": sorted(names)})) if names else names
        return [
            self._rewritten(tx, one, now)
            if one.forwarder and foreign and _domain_of(one.reverse_path) in foreign
            else one.reverse_path
            for one in messages
        ]

    def resolve(self, tx: Connection, paths: Sequence[str], reverse_path: str, now: int) -> list[Resolution]:
        """Resolve forward-paths as `resolve_many`, and rewritten paths of ours to the original ones."""
        found = resolve_many(tx, paths)
        for at, path in enumerate(paths):
            if is_rewritten(path) and (found[at].kind is not AddressKind.FOREIGN or self._is_named(path)):
                found[at] = self._returned(tx, path, reverse_path, now)
        return found

    def _rewritten(self, tx: Connection, message: Forwarded, now: int) -> str:
        rewriter = self._rewriter
        if rewriter is None:
            rewriter = self._rewriter = Rewriter([lasting_secrets.get(tx, SECRET, now)])
        path = addresses.parse(message.reverse_path)
        made = rewriter.rewritten(path, self._domain or message.forwarder, now / SECOND)
        return str(made) if made is not None else message.reverse_path

    def _returned(self, tx: Connection, path: str, reverse_path: str, now: int) -> Resolution:
        """The original path as the target of a rewritten one; UNKNOWN with the problem if it does not lead back."""
        if reverse_path:
            problem = "A rewritten reverse-path takes reports from the null path only"
            return Resolution(path, AddressKind.UNKNOWN, problem=problem)
        rewriter = self._rewriter
        if rewriter is None:
            secret = lasting_secrets.find(tx, SECRET)
            rewriter = self._rewriter = Rewriter([secret]) if secret is not None else None
        try:
            if rewriter is None:
                raise BadSrs("was not written by this server")
            original = rewriter.original(addresses.parse(path).local_part, now / SECOND)
        except BadSrs as bad:
            return Resolution(path, AddressKind.UNKNOWN, problem=f"The rewritten reverse-path {bad.problem}")
        except InvalidAddress as bad:
            return Resolution(path, AddressKind.UNKNOWN, problem=bad.metadata.get("problem", ""))
        (target,) = resolve_many(tx, [str(original)])
        return Resolution(path, AddressKind.ALIAS, targets=target.targets or (target,))

    def _is_named(self, path: str) -> bool:
        return bool(self._domain) and _domain_of(path) == self._domain


def _domain_of(path: str) -> str:
    try:
        return addresses.parse(path).ascii_domain
    except InvalidAddress:
        return ""
