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
from restante_mail.envelope.paths import Path
from restante_mail.envelope.srs import LIFETIME_DAYS, MAX_PORTABLE_OCTETS, BadSrs, Rewriter
from restante_server.db.schema import domain
from restante_server.directory import addresses, lasting_secrets
from restante_server.directory.lasting_secrets import Version
from restante_server.directory.lookup import AddressKind, Resolution, resolve_many
from restante_server.transport import kept_paths

__all__ = ["Forwarded", "Forwarding", "is_rewritten", "tidy"]

SECRET = "rewritten reverse-paths"  # noqa: S105 - the name of one
SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND
RENEW_AFTER = 30 * DAY  # age at which the secret is replaced
VALID = (
    LIFETIME_DAYS + 2
) * DAY  # in which a path may come back: its day may have just begun, and the last one ends late

_ours = select(domain.c.ascii_name).where(domain.c.ascii_name.in_(bindparam("names", expanding=True)))


class Forwarded(NamedTuple):
    """A message that is sent on: its reverse-path and the domain of the alias."""

    reverse_path: str
    forwarder: str


def is_rewritten(path: str) -> bool:
    """Whether a path has the form of a rewritten one, of whatever domain."""
    return srs.is_rewritten(path.removeprefix('"'))


def tidy(tx: Connection, now: int) -> None:
    """Replace the secret when it is due; forget old secrets and kept paths when nothing made with them is valid."""
    lasting_secrets.renew(tx, SECRET, now, RENEW_AFTER)
    lasting_secrets.forget(tx, SECRET, now - VALID)
    kept_paths.forget(tx, now - VALID)


def replace_secret(tx: Connection, now: int, *, revoke_earlier: bool) -> int:
    """Replace the secret; returns the number of those that prove paths from now on."""
    lasting_secrets.replace(tx, SECRET, now)
    if revoke_earlier:
        lasting_secrets.forget(tx, SECRET, now + 1)
    return len(lasting_secrets.find(tx, SECRET))


class _Loaded(NamedTuple):
    """The secrets of the store as this core has read them."""

    rewriter: Rewriter
    latest: int  # the number of the version that writes


class Forwarding:
    """Rewrites reverse-paths with the secret of the store. Use it on any thread."""

    def __init__(self, domain: str = "") -> None:
        """`domain` is that of rewritten paths; "": the alias's."""
        self._domain = domain
        self._loaded: _Loaded | None = None

    def reverse_paths(self, tx: Connection, messages: Sequence[Forwarded], now: int) -> list[str]:
        """The reverse-paths with which messages are sent, in order, in a transaction that may write.

        A null path stays, and a path of a domain of ours.
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
        # A first secret is not kept in memory before the commit, which may fail.
        rewriter = self._current(tx) or _rewriter(lasting_secrets.get(tx, SECRET, now))
        path, here = addresses.parse(message.reverse_path), self._domain or message.forwarder
        made = rewriter.rewritten(path, here, now / SECOND)
        if made is not None and len(made.local_part.encode()) <= MAX_PORTABLE_OCTETS:
            return str(made)
        short, kept = rewriter.short(path, here, now / SECOND)
        if kept_paths.keep(tx, kept.key, str(path), now):
            return str(short)
        return str(made) if made is not None else message.reverse_path

    def _current(self, tx: Connection) -> Rewriter | None:
        """The rewriter with the secrets of the store; None if it has none yet.

        Another core may have replaced a secret, or revoked one.
        """
        latest = lasting_secrets.latest(tx, SECRET)
        loaded = self._loaded
        if loaded is None or loaded.latest != latest:
            versions = lasting_secrets.find(tx, SECRET)
            loaded = self._loaded = _Loaded(_rewriter(versions), latest) if versions else None
        return loaded.rewriter if loaded is not None else None

    def _returned(self, tx: Connection, path: str, reverse_path: str, now: int) -> Resolution:
        """The original path as the target of a rewritten one; UNKNOWN with the problem if it does not lead back."""
        if reverse_path:
            problem = "A rewritten reverse-path takes reports from the null path only"
            return Resolution(path, AddressKind.UNKNOWN, problem=problem)
        try:
            original = self._original(tx, addresses.parse(path).local_part, now)
        except BadSrs as bad:
            return Resolution(path, AddressKind.UNKNOWN, problem=f"The rewritten reverse-path {bad.problem}")
        except InvalidAddress as bad:
            return Resolution(path, AddressKind.UNKNOWN, problem=bad.metadata.get("problem", ""))
        (target,) = resolve_many(tx, [original])
        return Resolution(path, AddressKind.ALIAS, targets=target.targets or (target,))

    def _original(self, tx: Connection, local_part: str, now: int) -> str:
        """The path from which a rewritten one was made. Raises BadSrs."""
        rewriter = self._current(tx)
        if rewriter is None:
            raise BadSrs("was not written by this server")
        found = rewriter.original(local_part, now / SECOND)
        if isinstance(found, Path):
            return str(found)
        kept = kept_paths.find(tx, found.key)
        if kept is None:
            raise BadSrs("was not written by this server")
        return kept

    def _is_named(self, path: str) -> bool:
        return bool(self._domain) and _domain_of(path) == self._domain


def _rewriter(versions: Sequence[Version]) -> Rewriter:
    return Rewriter([version.secret for version in versions])


def _domain_of(path: str) -> str:
    try:
        return addresses.parse(path).ascii_domain
    except InvalidAddress:
        return ""
