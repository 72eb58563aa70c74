"""The addresses that an account may send as: its own, its own with `+detail`, and aliases with no other target.

The policy of the sender's domain decides whether, and to which recipients, the account may resend mail of other authors
(RFC 5322 3.6.6).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from restante.errors import InvalidAddress, SenderNotPermitted
from restante_server.db.schema import account, alias
from restante_server.directory import addresses, domains
from restante_server.directory.domains import Resending
from restante_server.directory.lookup import AddressKind, resolve_many

_own = select(account.c.address_key).where(account.c.account_id == bindparam("account"))
_aliases = select(alias.c.address_key).where(alias.c.address_key.in_(bindparam("keys", expanding=True)))


def require(tx: Connection, account_id: int, claims: Sequence[tuple[str, str]]) -> None:
    """Check that the account may use every (field, address). Raises SenderNotPermitted for the first it may not use.

    An address that reaches the account only through the catch-all, or as a role such as postmaster, does not count.
    """
    own = tx.execute(_own, {"account": account_id}).scalar_one_or_none()
    others: list[tuple[str, str, set[str]]] = []  # field, address, keys that may be an alias
    for field, address in claims:
        try:
            key = addresses.key(address)
        except InvalidAddress:
            raise SenderNotPermitted(address=address[:320], field=field) from None
        keys = {key, addresses.without_detail(key) or key}
        if own is None or own not in keys:
            others.append((field, address, keys))
    if not others:
        return
    wanted = sorted(set().union(*(keys for _, _, keys in others)))
    known = set(tx.scalars(_aliases, {"keys": wanted}))
    resolutions = resolve_many(tx, [address for _, address, _ in others])
    for (field, address, keys), found in zip(others, resolutions, strict=True):
        leads_here = found.kind is AddressKind.ALIAS and [target.account_id for target in found.targets] == [account_id]
        if not (known & keys and leads_here):
            raise SenderNotPermitted(address=address[:320], field=field)


def require_resending(tx: Connection, account_id: int, originals: Sequence[tuple[str, str]], to: Sequence[str]) -> None:
    """Check that the account may resend mail of these authors (field, address) to these forward-paths.

    Raises SenderNotPermitted, which names the first author that is not the account and the reason.
    """
    try:
        require(tx, account_id, originals)
        return
    except SenderNotPermitted as refused:
        own_domain = addresses.split_key(tx.execute(_own, {"account": account_id}).scalar_one())[1]
        policy = domains.resending_of(tx, own_domain)
        if policy is Resending.ANYWHERE:
            return
        if policy is Resending.NEVER:
            problem = f"accounts of {own_domain} may not resend messages of other authors"
        elif outside := next((path for path in to if not _within(path, own_domain)), ""):
            problem = (
                f"accounts of {own_domain} may resend messages of other authors only within it, not to {outside[:320]}"
            )
        else:
            return
        address, field = refused.metadata["address"], refused.metadata["field"]
        raise SenderNotPermitted(address=address, field=field, problem=problem) from None


def _within(path: str, ascii_domain: str) -> bool:
    try:
        return addresses.parse(path).ascii_domain == ascii_domain
    except InvalidAddress:  # a bare `postmaster` is local; route.plan fails other invalid addresses
        return "@" not in path
