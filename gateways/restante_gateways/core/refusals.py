"""What a refusal of the core says about itself, as one line for a client of any protocol (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from restante.errors import RestanteError

MAX_CHARACTERS = 400  # SMTP's reply line has 512 octets, RFC 5321 4.5.3.1.5; POP3's response as many, RFC 1939 3
_UNSAFE = re.compile(r"[^\x20-\x7e]")

Texts = Mapping[type[RestanteError], tuple[str, ...]]
"""By reason: sentences with {keys} of the reason's metadata, the one that says most first."""


def text_of(error: RestanteError, texts: Texts) -> str | None:
    """The first sentence whose keys are all known, in printable ASCII; None when there is none."""
    known = {key: value for key, value in error.metadata.items() if value}
    for sentence in texts.get(type(error), ()):
        try:
            return _UNSAFE.sub("?", sentence.format_map(known))[:MAX_CHARACTERS]
        except KeyError:
            continue
    return None
