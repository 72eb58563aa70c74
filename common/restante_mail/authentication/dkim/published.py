"""The published records of our own keys: their differences from what must be published (RFC 6376 3.6.1). *Pure.*"""

from __future__ import annotations

from collections.abc import Sequence

from restante_mail.authentication.dkim.tags import TagError, TagList, octets_of, read_tags, words_of

__all__ = ["differences"]

MAX_RECORD_OCTETS = 8_192
MAX_RECORDS = 10  # at one name that are looked at


def differences(expected: str, published: Sequence[bytes]) -> list[str]:
    """The faults of the TXT records at a key's name, in words; none if they publish the key as the store has it.

    `expected` is the text of the record to publish, whose p= is empty for a revoked key.
    """
    wanted = read_tags(expected.encode(), MAX_RECORD_OCTETS)
    revoked = not wanted.values["p"]
    if not published:
        return [] if revoked else ["there is no record"]
    if len(published) > 1:
        return [f"there are {len(published)} records, of which receivers may take the wrong one"]
    try:
        found = read_tags(published[0], MAX_RECORD_OCTETS)
        key = octets_of("p", found.required("p") if "p" not in found.values else found.values["p"])
    except TagError as bad:
        return [f"the record is no key record: {bad}"]
    if revoked:
        return ["the revoked key is still published"] if key else []
    return _of_record(wanted, found, key)


def _of_record(wanted: TagList, found: TagList, key: bytes) -> list[str]:
    values = found.values
    problems = []
    if values.get("v", "DKIM1") != "DKIM1" or ("v" in values and next(iter(values)) != "v"):
        problems.append("v= is not DKIM1 at the start")
    if values.get("k", "rsa") != wanted.values["k"]:
        problems.append(f"k= is {values.get('k', 'rsa')!r} instead of {wanted.values['k']}")
    if not key:
        problems.append("p= is empty, which revokes the key")
    elif key != octets_of("p", wanted.values["p"]):
        problems.append("p= has another key")
    if values.get("h") and "sha256" not in words_of(values["h"]):
        problems.append("h= does not allow sha256")
    if values.get("s") and not {"*", "email"} & set(words_of(values["s"])):
        problems.append("s= does not allow mail")
    if "y" in words_of(values.get("t", "")):
        problems.append("t=y says that the domain only tests DKIM")
    return problems
