"""Resolving an address to its mailboxes and foreign addresses.

An address resolves to the first of these that exists: the account or alias of exactly that address, the one without
`+detail`, the role default of `postmaster` and `abuse` (RFC 5321 4.5.1, RFC 2142 4), the domain's catch-all. An alias
with `+detail` in its address therefore has precedence over the account without the detail.

The role default is the domain's oldest administrator, else its oldest account, else the oldest administrator, else the
oldest account of the installation. `postmaster` without a domain belongs to the oldest domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sqlalchemy import Connection, bindparam, literal, select, union_all

from restante.errors import InvalidAddress
from restante_server.db.schema import account, alias, domain
from restante_server.directory import addresses
from restante_server.directory.aliases import read_targets

MAX_DEPTH = 10  # levels of aliases of aliases
MAX_EXPANDED = 1_000  # most recipients of one alias
KEYS_AT_ONCE = 500  # in one statement
ROLES = frozenset({"postmaster", "abuse"})
BARE_POSTMASTER = "postmaster"  # RFC 5321 4.1.1.3


class AddressKind(Enum):
    """The kind of an address."""

    LOCAL = "a mailbox of this store"
    ALIAS = "expanded into `targets`"
    UNKNOWN = "a local domain, but no such recipient"
    FOREIGN = "not a local domain"


@dataclass(frozen=True, slots=True)
class Resolution:
    """The result for one address."""

    address: str  # as the caller gave it; for a target, as the alias has it
    kind: AddressKind
    account_id: int = 0  # LOCAL
    mailbox_id: int = 0  # LOCAL
    targets: tuple[Resolution, ...] = ()  # ALIAS: LOCAL, FOREIGN and UNKNOWN ones, each mailbox and address once
    problem: str = ""  # UNKNOWN: the reason, for the trace


@dataclass(frozen=True, slots=True)
class _Direct:
    """The entry of one address: an account, an alias with its targets, or neither."""

    account_id: int = 0
    mailbox_id: int = 0
    targets: tuple[str, ...] = ()
    alias_key: str = ""


@dataclass
class _Known:
    """The rows read so far."""

    domains: dict[str, tuple[int, str | None]] = field(default_factory=dict)  # {ascii name: (id, catch-all key)}
    asked_domains: set[str] = field(default_factory=set)
    entries: dict[str, _Direct] = field(default_factory=dict)
    asked_keys: set[str] = field(default_factory=set)
    followed: set[str] = field(default_factory=set)  # keys whose base address, role and catch-all were read too
    roles: dict[int, _Direct] = field(default_factory=dict)  # by domain id


_of_keys = union_all(
    select(account.c.address_key, account.c.account_id, account.c.mailbox_id, literal("").label("targets")).where(
        account.c.address_key.in_(bindparam("keys", expanding=True))
    ),
    select(alias.c.address_key, literal(0), literal(0), alias.c.targets).where(
        alias.c.address_key.in_(bindparam("keys", expanding=True))
    ),
)
_of_domains = select(domain.c.ascii_name, domain.c.domain_id, domain.c.catch_all).where(
    domain.c.ascii_name.in_(bindparam("names", expanding=True))
)


def resolve(tx: Connection, address: str) -> Resolution:
    """Resolve one address. Raises InvalidAddress."""
    addresses.parse(_with_domain(tx, address))
    return resolve_many(tx, [address])[0]


def resolve_many(tx: Connection, wanted: Sequence[str]) -> list[Resolution]:
    """Resolve addresses, in order, with two statements for all of them and two for each level of aliases.

    A syntactically invalid address is UNKNOWN, with the problem.
    """
    known = _Known()
    keys: list[str | None] = []
    problems: list[str] = []
    for address in wanted:
        key, problem = _key(_with_domain(tx, address))
        keys.append(key)
        problems.append(problem)
    frontier = {key for key in keys if key is not None}
    for _ in range(MAX_DEPTH + 1):
        _learn(tx, known, frontier)
        found = (_direct(known, key) for key in frontier)
        following = {key for direct in found if direct for key in _target_keys(direct) if key not in known.followed}
        if not following:
            break
        frontier = following
    return [
        _answer(known, address, key) if key is not None else Resolution(address, AddressKind.UNKNOWN, problem=problem)
        for address, key, problem in zip(wanted, keys, problems, strict=True)
    ]


def _with_domain(tx: Connection, address: str) -> str:
    if address.casefold() != BARE_POSTMASTER:
        return address
    oldest = tx.execute(select(domain.c.name).order_by(domain.c.domain_id).limit(1)).scalar()
    return f"{address}@{oldest}" if oldest is not None else address


def _key(address: str) -> tuple[str | None, str]:
    try:
        return addresses.key(address), ""
    except InvalidAddress as error:
        return None, error.metadata.get("problem", "")


def _target_keys(direct: _Direct) -> Iterable[str]:
    return (key for key, _ in map(_key, direct.targets) if key is not None)


def _learn(tx: Connection, known: _Known, keys: set[str]) -> None:
    """Read the entries of the keys, of the keys without detail, and of their domains' catch-alls and role defaults."""
    names = {addresses.split_key(key)[1] for key in keys} - known.asked_domains
    for some in _pieces(names):
        for row in tx.execute(_of_domains, {"names": some}):
            known.domains[row.ascii_name] = (row.domain_id, row.catch_all)
    known.asked_domains |= names
    ours = {key for key in keys if addresses.split_key(key)[1] in known.domains}
    asked = set(ours)
    for key in ours:
        base, catch_all = addresses.without_detail(key), known.domains[addresses.split_key(key)[1]][1]
        asked.update(other for other in (base, catch_all) if other)
    for some in _pieces(asked - known.asked_keys):
        for row in tx.execute(_of_keys, {"keys": some}):
            targets = read_targets(row.targets) if row.targets else ()
            alias_key = row.address_key if targets else ""
            known.entries[row.address_key] = _Direct(row.account_id, row.mailbox_id, targets, alias_key)
    known.asked_keys |= asked
    known.followed |= keys
    for key in ours:
        local_part, name = addresses.split_key(addresses.without_detail(key) or key)
        domain_id = known.domains[name][0]
        if local_part in ROLES and domain_id not in known.roles:
            known.roles[domain_id] = _role_default(tx, domain_id)


def _pieces(values: set[str]) -> Iterable[list[str]]:
    ordered = sorted(values)
    return (ordered[start : start + KEYS_AT_ONCE] for start in range(0, len(ordered), KEYS_AT_ONCE))


def _role_default(tx: Connection, domain_id: int) -> _Direct:
    here = account.c.domain_id == domain_id
    ranked = (
        select(account.c.account_id, account.c.mailbox_id)
        .where(account.c.enabled)
        .order_by(here.desc(), account.c.administrator.desc(), account.c.account_id)
        .limit(1)
    )
    row = tx.execute(ranked).first()
    return _Direct(row.account_id, row.mailbox_id) if row is not None else _Direct()


def _direct(known: _Known, key: str) -> _Direct | None:
    """The entry of a key, in the module's order of precedence; None when its domain is not local."""
    name = addresses.split_key(key)[1]
    if name not in known.domains:
        return None
    domain_id, catch_all = known.domains[name]
    base = addresses.without_detail(key)
    for candidate in (key, base):
        if candidate is not None and candidate in known.entries:
            return known.entries[candidate]
    if addresses.split_key(base or key)[0] in ROLES and known.roles[domain_id].account_id:
        return known.roles[domain_id]
    return known.entries.get(catch_all, _Direct()) if catch_all else _Direct()


def _answer(known: _Known, address: str, key: str) -> Resolution:
    direct = _direct(known, key)
    if direct is None:
        return Resolution(address, AddressKind.FOREIGN)
    if direct.account_id:
        return Resolution(address, AddressKind.LOCAL, direct.account_id, direct.mailbox_id)
    if not direct.targets:
        return Resolution(address, AddressKind.UNKNOWN, problem="no such recipient")
    return _expand(known, address, direct)


def _expand(known: _Known, address: str, start: _Direct) -> Resolution:
    """The final recipients of an alias, breadth first. A repeated alias adds nothing."""
    leaves: dict[object, Resolution] = {}
    seen, level = {start.alias_key}, [start]
    for depth in range(MAX_DEPTH + 1):
        following: list[_Direct] = []
        for target in (target for direct in level for target in direct.targets):
            leaf, deeper = _leaf(known, target, depth)
            if leaf is not None:
                leaves.setdefault(leaf.mailbox_id or _key(target)[0] or target, leaf)
            elif deeper is not None and deeper.alias_key not in seen:
                seen.add(deeper.alias_key)
                following.append(deeper)
        level = following
        if not level or len(leaves) > MAX_EXPANDED:
            break
    if not leaves:
        return Resolution(address, AddressKind.UNKNOWN, problem="the alias has no target but itself")
    if len(leaves) > MAX_EXPANDED:
        return Resolution(
            address, AddressKind.UNKNOWN, problem=f"the alias expands to more than {MAX_EXPANDED} recipients"
        )
    return Resolution(address, AddressKind.ALIAS, targets=tuple(leaves.values()))


def _leaf(known: _Known, target: str, depth: int) -> tuple[Resolution | None, _Direct | None]:
    """(the resolution of a target, None), or (None, the entry of a target that is an alias)."""
    key, problem = _key(target)
    if key is None:
        return Resolution(target, AddressKind.UNKNOWN, problem=problem), None
    if depth >= MAX_DEPTH:
        return Resolution(
            target, AddressKind.UNKNOWN, problem=f"aliases are nested deeper than {MAX_DEPTH} levels"
        ), None
    direct = _direct(known, key)
    if direct is not None and direct.targets:
        return None, direct
    return _answer(known, target, key), None
