"""CONDSTORE: change numbers in answers, and commands that depend on them (RFC 7162 3.1).

`grammar/condstore.py` has its syntax, which SELECT, FETCH, STORE and SEARCH use; a client that uses it enables it.
"""

from __future__ import annotations

from restante_gateways.imap.commands.session import User
from restante_gateways.imap.commands.table import extension
from restante_gateways.imap.grammar import condstore


def enable(s: User) -> bool:
    """A CONDSTORE-enabling command (RFC 7162 3.1), or ENABLE; whether it was off before."""
    was_off = not s.announcements.with_change_numbers
    s.announcements.add_change_numbers()
    return was_off


extension(condstore.CAPABILITY, enable=enable)
