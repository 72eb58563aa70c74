"""The ARC sets of a header, and the rules of their structure (RFC 8617 4). *Pure.*"""

from __future__ import annotations

import re
from dataclasses import dataclass

from restante_mail.authentication.dkim.canonicalization import Canonicalization
from restante_mail.authentication.dkim.content import HeaderField, HeaderFields
from restante_mail.authentication.dkim.signatures import (
    MOST_FIELD_OCTETS,
    Identified,
    Signature,
    read_signature,
    read_signer,
    seconds_of,
)
from restante_mail.authentication.dkim.tags import TagError, TagList, read_tags
from restante_mail.header.fields import unfold

__all__ = ["MOST_SETS", "ArcSet", "ChainBroken", "latest_instance", "latest_seal_failed", "read_chain", "set_octets"]

MOST_SETS = 50  # RFC 8617 4.2.1
MOST_CHAIN_OCTETS = 262_144  # of all ARC fields together

RESULTS, MESSAGE_SIGNATURE, SEAL = NAMES = (
    b"arc-authentication-results",
    b"arc-message-signature",
    b"arc-seal",
)
_INSTANCE = re.compile(r"[0-9]{1,2}")
_RESULTS_INSTANCE = re.compile(r"\s*+i\s*+=\s*+([0-9]{1,2})\s*+;\s*+")


class ChainBroken(ValueError):
    """The ARC fields are no chain of whole sets. The text is the reason."""


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One whole set with the values of its fields. `results` is that of ARC-Authentication-Results behind i=."""

    instance: int
    fields: tuple[HeaderField, HeaderField, HeaderField]  # in the order of NAMES
    results: str
    signature: Signature
    signature_tags: TagList
    sealer: Identified
    seal_tags: TagList
    chain_validation: str  # cv=


def read_chain(header: HeaderFields) -> tuple[ArcSet, ...]:
    """The sets of a header from instance 1 on; () without ARC fields. Raises ChainBroken.

    The sets are complete, each instance occurs once, and each cv= is the one of a chain that has passed so far, but for
    the last one, which may be "fail" (RFC 8617 5.2 steps 1 to 3).
    """
    found = [header.named(name) for name in NAMES]
    most = max(map(len, found))
    if most > MOST_SETS:
        raise ChainBroken(f"more than {MOST_SETS} sets")
    if sum(len(field.octets) for fields in found for field in fields) > MOST_CHAIN_OCTETS:
        raise ChainBroken(f"more than {MOST_CHAIN_OCTETS} octets")
    results, signatures, seals = (_by_instance(name, fields) for name, fields in zip(NAMES, found, strict=True))
    sets = []
    for instance in range(1, most + 1):
        if not (instance in results and instance in signatures and instance in seals):
            raise ChainBroken(f"set {instance} is not complete")
        arc_set = _arc_set(instance, results[instance], signatures[instance], seals[instance])
        wanted = ("none",) if instance == 1 else ("pass",)
        if arc_set.chain_validation not in (*wanted, *(("fail",) if instance == most else ())):
            raise ChainBroken(f"cv={arc_set.chain_validation} in set {instance}")
        sets.append(arc_set)
    return tuple(sets)


def latest_instance(header: HeaderFields) -> int:
    """The highest instance number in any ARC field, also of a broken chain; 0 without one."""
    numbers = [0]
    for name in NAMES:
        for field in header.named(name)[: 2 * MOST_SETS]:
            try:
                numbers.append(_instance(name, field)[0])
            except ChainBroken:
                continue
    return max(numbers)


def latest_seal_failed(header: HeaderFields) -> bool:
    """Whether the seal with the highest instance number has cv=fail: no set may follow it (RFC 8617 5.1.2)."""
    highest, failed = 0, False
    for field in header.named(SEAL)[: 2 * MOST_SETS]:
        try:
            instance, tags = _instance(SEAL, field)
        except ChainBroken:
            continue
        if instance > highest:
            highest, failed = instance, tags is not None and tags.values.get("cv") == "fail"
    return failed


def set_octets(header: HeaderFields, fields: tuple[HeaderField, ...]) -> bytes:
    """The canonical octets of the fields of a set, each with its CRLF (RFC 8617 5.1.1)."""
    return b"".join(header.canonical(field.place, Canonicalization.RELAXED) for field in fields)


def _by_instance(name: bytes, fields: list[HeaderField]) -> dict[int, tuple[HeaderField, TagList | None]]:
    found: dict[int, tuple[HeaderField, TagList | None]] = {}
    for field in fields:
        instance, tags = _instance(name, field)
        if instance in found:
            raise ChainBroken(f"two {_shown(name)} fields with i={instance}")
        found[instance] = (field, tags)
    return found


def _instance(name: bytes, field: HeaderField) -> tuple[int, TagList | None]:
    """The instance number of a field, and its tags if it is a tag list. Raises ChainBroken."""
    tags = None
    try:
        if name == RESULTS:
            match = _RESULTS_INSTANCE.match(unfold(field.value))
            text = match[1] if match is not None else ""
        else:
            tags = read_tags(field.value, MOST_FIELD_OCTETS)
            text = tags.required("i")
    except TagError as problem:
        raise ChainBroken(f"{_shown(name)}: {problem}") from None
    if _INSTANCE.fullmatch(text) is None or not 1 <= int(text) <= MOST_SETS:
        raise ChainBroken(f"{_shown(name)}: i= is no number from 1 to {MOST_SETS}")
    return int(text), tags


def _arc_set(
    instance: int,
    results: tuple[HeaderField, TagList | None],
    signature: tuple[HeaderField, TagList | None],
    seal: tuple[HeaderField, TagList | None],
) -> ArcSet:
    signature_tags, seal_tags = signature[1], seal[1]
    assert signature_tags is not None and seal_tags is not None
    text = unfold(results[0].value)
    prefix = _RESULTS_INSTANCE.match(text)
    assert prefix is not None
    try:
        # As other validators do without c=: RFC 8617 names no default, and that of DKIM would be simple.
        message_signature = read_signature(signature_tags, Canonicalization.RELAXED)
        if SEAL in message_signature.names:
            raise TagError("h= has ARC-Seal")
    except TagError as problem:
        raise ChainBroken(f"{_shown(MESSAGE_SIGNATURE)} {instance}: {problem}") from None
    try:
        if "h" in seal_tags.values:
            raise TagError("h= is not allowed")
        seconds_of(seal_tags, "t")
        sealer, validation = read_signer(seal_tags), seal_tags.required("cv")
    except TagError as problem:
        raise ChainBroken(f"{_shown(SEAL)} {instance}: {problem}") from None
    fields = (results[0], signature[0], seal[0])
    return ArcSet(
        instance, fields, text[prefix.end() :], message_signature, signature_tags, sealer, seal_tags, validation
    )


def _shown(name: bytes) -> str:
    return name.decode("ascii").title().replace("Arc-", "ARC-")
