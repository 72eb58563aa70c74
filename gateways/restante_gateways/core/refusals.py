"""Texts for refusals of the core, one line each, for clients of any protocol. *Pure.*"""

from __future__ import annotations

import re
from collections.abc import Mapping

from restante.errors import RestanteError

MAX_CHARACTERS = 400  # SMTP's reply line has 512 octets, RFC 5321 4.5.3.1.5; POP3's response as many, RFC 1939 3
_UNSAFE = re.compile(r"[^\x20-\x7e]")

Texts = Mapping[type[RestanteError], tuple[str, ...]]
"""By reason: sentences with {keys} of the error's metadata, the most specific one first."""


def text_of(error: RestanteError, texts: Texts) -> str | None:
    """The first sentence whose keys the error's metadata has, in printable ASCII; None if there is none."""
    known = {key: value for key, value in error.metadata.items() if value}
    for sentence in texts.get(type(error), ()):
        try:
            return _UNSAFE.sub("?", sentence.format_map(known))[:MAX_CHARACTERS]
        except KeyError:
            continue
    return None
