"""In whose name an account may send: its own address, that with `+detail`, and aliases that lead to it alone."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from restante.errors import InvalidAddress, SenderNotPermitted
from restante_server.db.schema import account, alias
from restante_server.directory import addresses
from restante_server.directory.lookup import Kind, resolve_many

_own = select(account.c.address_key).where(account.c.account_id == bindparam("account"))
_aliases = select(alias.c.address_key).where(alias.c.address_key.in_(bindparam("keys", expanding=True)))


def require(tx: Connection, account_id: int, claims: Sequence[tuple[str, str]]) -> None:
    """See that the account may use every (field, address). Raises SenderNotPermitted, which names the first it may not.

    An address that only the catch-all, or a role such as postmaster, would bring to the account is not its own.
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
        leads_here = found.kind is Kind.ALIAS and [target.account_id for target in found.targets] == [account_id]
        if not (known & keys and leads_here):
            raise SenderNotPermitted(address=address[:320], field=field)
