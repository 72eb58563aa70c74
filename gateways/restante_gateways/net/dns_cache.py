"""The cache of a resolver whose answers strangers write: bounded in number, size and time."""

from __future__ import annotations

import time

import dns.exception
from dns.resolver import Answer, CacheKey, LRUCache

MAX_ANSWERS = 10_000
MAX_ANSWER_OCTETS = 2_048  # of one that is kept; longer ones are asked for each time
LONGEST_SECONDS = 86_400.0  # for which an answer is kept, if its time to live is longer


class BoundedCache(LRUCache):
    """Keeps small answers, for a day at most. A time to live may be 68 years, and an answer may have 64 KiB."""

    def __init__(self, most: int = MAX_ANSWERS) -> None:
        super().__init__(most)

    def put(self, key: CacheKey, value: Answer) -> None:
        """See LRUCache."""
        try:
            size_octets = len(value.response.to_wire())
        except dns.exception.DNSException:
            return
        if size_octets <= MAX_ANSWER_OCTETS:
            value.expiration = min(value.expiration, time.time() + LONGEST_SECONDS)
            super().put(key, value)
