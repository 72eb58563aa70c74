"""The names and attributes in LIST and LSUB responses (RFC 3501 6.3.8, 6.3.9; RFC 5258; RFC 6154). *Pure.*"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from restante_gateways.imap.values import SEPARATOR, Folder, Role, full_name

SPECIAL_USE = {
    Role.ARCHIVE: b"\\Archive",
    Role.DRAFTS: b"\\Drafts",
    Role.JUNK: b"\\Junk",
    Role.SENT: b"\\Sent",
    Role.TRASH: b"\\Trash",
}
_CRITERIA = frozenset((b"SUBSCRIBED", b"SPECIAL-USE"))  # the selection options that RECURSIVEMATCH applies to


@dataclass(frozen=True, slots=True)
class Listed:
    """One LIST or LSUB response. `folder` is None if no folder of that name exists."""

    name: str
    attributes: tuple[bytes, ...]
    folder: Folder | None = None
    child_info: tuple[bytes, ...] = ()  # CHILDINFO: criteria that unlisted descendants meet (RFC 5258 3.5)


def covers(pattern: str, name: str) -> bool:
    """Whether a LIST pattern matches: `*` matches any characters, `%` any but the separator.

    Time is at most proportional to the product of the lengths, since it does not backtrack.
    """
    reached = _closure({0}, pattern)
    for character in name:
        following: set[int] = set()
        for at in reached:
            if at < len(pattern):
                token = pattern[at]
                if token == "*" or (token == "%" and character != SEPARATOR):  # noqa: S105 - no password
                    following.add(at)
                elif token == character and token != "%":  # noqa: S105
                    following.add(at + 1)
        if not following:
            return False
        reached = _closure(following, pattern)
    return len(pattern) in reached


def _closure(reached: set[int], pattern: str) -> set[int]:
    """Add the positions after wildcards, since a wildcard may match nothing."""
    pending = list(reached)
    while pending:
        at = pending.pop()
        if at < len(pattern) and pattern[at] in "*%" and at + 1 not in reached:
            reached.add(at + 1)
            pending.append(at + 1)
    return reached


def list_folders(
    folders: Sequence[Folder],
    subscriptions: frozenset[str],
    patterns: Sequence[str],
    selections: frozenset[bytes],
    returns: frozenset[bytes],
) -> list[Listed]:
    """The LIST responses, ascending by name.

    A name is listed if it meets the selection and a pattern matches it. With RECURSIVEMATCH a matching parent of a
    selected but unmatched name is listed too, with CHILDINFO; a parent of listed names alone has none (RFC 5258 5,
    example 9).
    """
    by_name = {full_name(folder.path): folder for folder in folders}
    parents = {parent for name in by_name for parent in _parents(name)}
    selected = set(by_name)
    if b"SUBSCRIBED" in selections:
        selected = set(subscriptions)
    if b"SPECIAL-USE" in selections:
        selected &= {name for name, folder in by_name.items() if folder.role in SPECIAL_USE}
    shown = {name for name in selected if _covered(name, patterns)}
    above = set[str]()
    if b"RECURSIVEMATCH" in selections:
        above = {parent for name in selected - shown for parent in _parents(name) if _covered(parent, patterns)}
    criteria = tuple(sorted(selections & _CRITERIA))
    listed = []
    for name in sorted(shown | above, key=_order):
        folder = by_name.get(name)
        attributes = _attributes(name, folder, name in parents)
        if name in subscriptions and b"SUBSCRIBED" in selections | returns:
            attributes.append(b"\\Subscribed")
        listed.append(Listed(name, tuple(attributes), folder, criteria if name in above else ()))
    return listed


def _covered(name: str, patterns: Iterable[str]) -> bool:
    return any(covers(pattern, name) for pattern in patterns)


def list_subscriptions(subscriptions: Iterable[str], pattern: str) -> list[Listed]:
    """The LSUB responses: subscribed names and, for `%`, their unsubscribed parents as \\Noselect (RFC 3501 6.3.9)."""
    names = set(subscriptions)
    listed = {name: Listed(name, ()) for name in names if covers(pattern, name)}
    if pattern.endswith("%"):
        for name in names:
            for parent in _parents(name):
                if parent not in names and covers(pattern, parent):
                    listed[parent] = Listed(parent, (b"\\Noselect",))
    return [listed[name] for name in sorted(listed, key=_order)]


def _attributes(name: str, folder: Folder | None, has_children: bool) -> list[bytes]:
    attributes = [] if folder is not None else [b"\\NonExistent"]
    attributes.append(b"\\HasChildren" if has_children else b"\\HasNoChildren")
    if folder is not None and folder.role in SPECIAL_USE:
        attributes.append(SPECIAL_USE[folder.role])
    return attributes


def _parents(name: str) -> list[str]:
    levels = name.split(SEPARATOR)
    return [SEPARATOR.join(levels[:count]) for count in range(1, len(levels))]


def _order(name: str) -> tuple[bool, str]:
    return name != "INBOX", name
