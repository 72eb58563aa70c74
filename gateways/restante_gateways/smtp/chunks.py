"""The argument of BDAT (RFC 3030 2). *Pure.*"""

from __future__ import annotations

import re
from typing import NamedTuple

from restante_gateways.smtp.replies import Reply, SessionOver

_ARGUMENT = re.compile(rb"([0-9]{1,20})(?: +(LAST))?", re.IGNORECASE)
BAD_CHUNK = Reply(501, "5.5.4", "Syntax: BDAT octets [LAST]; closing the connection")


class Chunk(NamedTuple):
    """The announced chunk, which follows the command's line."""

    size_octets: int
    last: bool  # it ends the content


def parse_chunk(argument: bytes) -> Chunk:
    """Parse the argument of BDAT.

    Raises SessionOver for a bad one: without the chunk's length nobody knows where the next command begins, and the
    content of a message must never run as commands.
    """
    found = _ARGUMENT.fullmatch(argument)
    if found is None:
        raise SessionOver(BAD_CHUNK)
    return Chunk(int(found[1]), found[2] is not None)
