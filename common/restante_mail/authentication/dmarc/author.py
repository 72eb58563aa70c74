"""The author's domains: those of the mailboxes in From (RFC 9989 5.3.1). *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass

from restante_mail.envelope.paths import BadPath, ascii_domain
from restante_mail.header.address_list import Mailbox, Tokens, parse_address_list
from restante_mail.header.fields import raw_fields, wanted

__all__ = ["Author", "author"]

MAX_MAILBOXES = 100  # of From; a message with more has no author that anybody could check
MAX_TOKENS = 10_000  # of From fields in an unusual form

_FROM = wanted("From")


@dataclass(frozen=True, slots=True)
class Author:
    """The domains in From, each once, in A-labels and lower case, in their order."""

    domains: tuple[str, ...] = ()
    problem: str = ""  # why the domains cannot be told, or are not all


def author(header: bytes) -> Author:
    """The author of a message with this header block. Mailboxes in groups count, and so do those of further From
    fields, since programs differ in which one they show."""
    values = raw_fields(header, _FROM, len(header)).get("from", [])
    if not values:
        return Author(problem="there is no From field")
    tokens = Tokens(MAX_TOKENS)
    domains: dict[str, None] = {}
    problem, mailboxes = "", 0
    for value in values:
        for item in parse_address_list(value, MAX_MAILBOXES + 1, tokens):
            if isinstance(item, Mailbox):
                mailboxes += 1
                try:
                    domains[_domain(item)] = None
                except BadPath as error:
                    problem = problem or f"a mailbox in From {error.problem}"
    if mailboxes > MAX_MAILBOXES or tokens.left <= 0:
        problem = f"From has more than {MAX_MAILBOXES} mailboxes"
    elif not mailboxes:
        problem = "From has no mailbox"
    return Author(tuple(domains)[:MAX_MAILBOXES], problem)


def _domain(mailbox: Mailbox) -> str:
    """The domain of a mailbox in A-labels. Raises BadPath for an address literal, too, which has no DMARC record."""
    if not mailbox.domain:
        raise BadPath("has no domain")
    try:
        return ascii_domain(mailbox.domain.encode("latin-1").decode().removesuffix("."))
    except UnicodeDecodeError as error:
        raise BadPath("has a domain that is not UTF-8") from error
