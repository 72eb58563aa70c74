"""LIST, LSUB, NAMESPACE (RFC 3501 6.3.8, 6.3.9; RFC 5258; RFC 5819; RFC 6154; RFC 2342)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from restante_gateways.imap.commands.listing import Listed, list_folders, list_subscriptions
from restante_gateways.imap.commands.session import Session
from restante_gateways.imap.commands.status import StatusItem, status_items, status_line
from restante_gateways.imap.commands.table import LOGGED_IN, command, extension
from restante_gateways.imap.grammar import encoder
from restante_gateways.imap.grammar.parser import ParseError, Parser, canonical_name
from restante_gateways.imap.grammar.responses import OK, Status, untagged

_SELECTIONS = frozenset((b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE"))
_RETURNS = frozenset((b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE"))
_MAX_PATTERNS = 32


def list_line(word: bytes, listed: Listed) -> bytes:
    """The LIST or LSUB response of a name."""
    criteria = b" ".join(b'"%b"' % criterion for criterion in listed.child_info)
    info = b" (CHILDINFO (%b))" % criteria if criteria else b""
    attributes = b" ".join(listed.attributes)
    return untagged(b'%b (%b) "/" %b%b' % (word, attributes, encoder.mailbox_name(listed.name), info))


def _full_patterns(reference: str, patterns: Iterable[str | None]) -> list[str]:
    """Patterns with the reference prepended; INBOX in any letter case becomes INBOX.

    A None pattern was not valid modified UTF-7. It matches nothing (RFC 9051 6.3.9).
    """
    return [canonical_name(reference + pattern) for pattern in patterns if pattern is not None]


def _selection_options(p: Parser) -> frozenset[bytes]:
    options = frozenset(p.parenthesised_words())
    if options - _SELECTIONS:
        raise ParseError("unknown selection option")
    if b"RECURSIVEMATCH" in options and not options & {b"SUBSCRIBED", b"SPECIAL-USE"}:
        raise ParseError("RECURSIVEMATCH needs another selection option (RFC 5258 3.5)")
    return options


def _return_options(p: Parser) -> tuple[frozenset[bytes], tuple[StatusItem, ...]]:
    options, status = set[bytes](), tuple[StatusItem, ...]()
    p.expect(b"(")
    first = True
    while not p.accept(b")"):
        if not first:
            p.sp()
        first = False
        word = p.word()
        if word == b"STATUS":
            status = status_items(p.sp())
        elif word in _RETURNS:
            options.add(word)
        else:
            raise ParseError("unknown return option")
    return frozenset(options), status


def _patterns(p: Parser) -> list[str | None]:
    patterns: list[str | None] = []
    p.expect(b"(")
    while not patterns or not p.accept(b")"):
        if patterns:
            p.sp()
        patterns.append(p.list_mailbox())
        if len(patterns) > _MAX_PATTERNS:
            raise ParseError("too many patterns")
    return patterns


extension("LIST-EXTENDED")
extension("LIST-STATUS")
extension("SPECIAL-USE")
extension("CHILDREN")


@command("LIST", state=LOGGED_IN)
@dataclass(frozen=True)
class List:
    """List folders by pattern. RFC 3501 6.3.8; extended by RFC 5258 3."""

    reference: str
    patterns: tuple[str | None, ...]
    selections: frozenset[bytes] = frozenset()
    returns: frozenset[bytes] = frozenset()
    status: tuple[StatusItem, ...] = ()
    extended: bool = False

    @classmethod
    def parse(cls, p: Parser) -> List:
        p.sp()
        selections, extended = frozenset[bytes](), False
        if p.sees(b"("):
            selections, extended = _selection_options(p), True
            p.sp()
        reference = p.mailbox_name()
        p.sp()
        patterns = [p.list_mailbox()] if not p.sees(b"(") else _patterns(p)
        returns, status = frozenset[bytes](), tuple[StatusItem, ...]()
        if not p.at_end:
            if p.sp().word() != b"RETURN":
                raise ParseError("RETURN expected")
            (returns, status), extended = _return_options(p.sp()), True
        p.end()
        extended = extended or len(patterns) > 1
        return cls(reference, tuple(patterns), selections, returns, status, extended)

    async def run(self, s: Session) -> Status:
        if self.patterns == ("",) and not self.extended:
            s.client.write(untagged(b'LIST (\\Noselect) "/" ""'))
            return OK("LIST completed.")
        mailbox_id = s.account.mailbox_id
        folders = await s.account.folders.all(mailbox_id)
        wanted_names = self.selections & {b"SUBSCRIBED"} or self.returns & {b"SUBSCRIBED"}
        subscriptions = await s.account.folders.subscriptions(mailbox_id) if wanted_names else frozenset()
        listed = list_folders(
            folders, subscriptions, _full_patterns(self.reference, self.patterns), self.selections, self.returns
        )
        for entry in listed:
            s.client.write(list_line(b"LIST", entry))
            if self.status and entry.folder is not None:
                s.client.write(await status_line(s, entry.name, entry.folder, self.status))
            await s.client.flow()
        return OK("LIST completed.")


@command("LSUB", state=LOGGED_IN)
@dataclass(frozen=True)
class Lsub:
    """List subscribed names, including those of deleted folders. RFC 3501 6.3.9."""

    reference: str
    pattern: str | None

    @classmethod
    def parse(cls, p: Parser) -> Lsub:
        reference = p.sp().mailbox_name()
        pattern = p.sp().list_mailbox()
        p.end()
        return cls(reference, pattern)

    async def run(self, s: Session) -> Status:
        if self.pattern == "":
            s.client.write(untagged(b'LSUB (\\Noselect) "/" ""'))
            return OK("LSUB completed.")
        for pattern in _full_patterns(self.reference, [self.pattern]):
            subscriptions = await s.account.folders.subscriptions(s.account.mailbox_id)
            for entry in list_subscriptions(subscriptions, pattern):
                s.client.write(list_line(b"LSUB", entry))
        return OK("LSUB completed.")


extension("NAMESPACE")


@command("NAMESPACE", state=LOGGED_IN)
@dataclass(frozen=True)
class Namespace:
    """Report the namespaces: one personal namespace with an empty prefix. RFC 2342 5."""

    @classmethod
    def parse(cls, p: Parser) -> Namespace:
        p.end()
        return cls()

    async def run(self, s: Session) -> Status:
        s.client.write(untagged(b'NAMESPACE (("" "/")) NIL NIL'))
        return OK("NAMESPACE completed.")
