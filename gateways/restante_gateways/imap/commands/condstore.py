"""CONDSTORE: change numbers in responses, and commands conditional on them (RFC 7162 3.1).

`grammar/condstore.py` has the syntax for SELECT, FETCH, STORE and SEARCH. The first use of it enables CONDSTORE.
"""

from __future__ import annotations

from restante_gateways.imap.commands.session import User
from restante_gateways.imap.commands.table import extension
from restante_gateways.imap.grammar import condstore


def enable(s: User) -> bool:
    """Enable CONDSTORE, for an enabling command (RFC 7162 3.1) or ENABLE. Return whether it was off before."""
    was_off = not s.announcements.with_change_numbers
    s.announcements.add_change_numbers()
    return was_off


extension(condstore.CAPABILITY, enable=enable)
