"""The facts of a content, computed once on arrival (docs/design.md "Parsed once"). *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass

from restante_mail.header.summary import Summary, envelope, read_header, summary
from restante_mail.limits import DEFAULT_LIMITS, Limits
from restante_mail.mime.numbered import attachment_count
from restante_mail.mime.parts import Part
from restante_mail.mime.scanner import parse
from restante_mail.mime.structure import structures
from restante_mail.mime.text import preview
from restante_mail.octets import Buffer, take

__all__ = ["Facts", "scan"]


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one content for listings, which therefore never parse."""

    tree: Part
    summary: Summary
    envelope: bytes  # encoded RFC 9051 ENVELOPE
    body_structure: bytes  # encoded RFC 9051 BODYSTRUCTURE
    body: bytes  # encoded BODY, which has no extension data
    preview: str  # at most 200 characters of visible text, in one line
    attachment_count: int


def scan(content: Buffer, limits: Limits = DEFAULT_LIMITS) -> Facts:
    """The facts of a canonical content. Never raises; copies headers and the beginning of a text, never a body."""
    tree = parse(content, limits)
    header = read_header(take(content, 0, min(tree.body_start, limits.header_octets + 1)), limits)
    body_structure, body = structures(content, tree, limits)
    return Facts(
        tree=tree,
        summary=summary(header),
        envelope=envelope(header),
        body_structure=body_structure,
        body=body,
        preview=preview(content, tree),
        attachment_count=attachment_count(tree),
    )
