"""Mail to search, random conditions, and a second, simplest evaluation of each."""

from __future__ import annotations

import base64
import hashlib
import random
from dataclasses import dataclass
from operator import eq, ge, gt, lt
from pathlib import Path

from sqlalchemy import Connection

from restante_mail.header.addresses import shown
from restante_mail.idset import IdSet
from restante_mail.mime import parts
from restante_mail.mime.facts import Facts, scan
from restante_mail.mime.text import field_values, header_text, text_chunks
from restante_mail.text.fold import fold
from restante_server.directory.rights import Place
from restante_server.store import contents
from restante_server.store.contents import NewContent
from restante_server.store.listing import listing_of, microseconds
from restante_server.store.messages import NewMessage, Placed
from restante_server.store.restriction import (
    CHECK_MASK,
    AllOf,
    Among,
    AnyOf,
    Checked,
    CheckMethod,
    Compare,
    Comparison,
    HasFlags,
    HasHeader,
    HasKeyword,
    HasText,
    Moment,
    Not,
    Property,
    Restriction,
    TextField,
    Within,
)
from tests.server.store.material import NOW, Box, add_to

HOUR = 3_600_000_000
WORDS = [
    "rest",
    "Restaurant",
    "CAFÉ",
    "cafe\u0301",
    "lunch 100%",
    "a_b",
    "naïve",
    "Straße",
    "noon",
    "ﬁne",
    "日本",
    "'q\"\\",
]
HEAD = b"Return-Path: <carol@example.org>\r\nDelivered-To: alice@example.test\r\n"


@dataclass
class Known:
    """A message with the facts of its creation by the test."""

    octets: bytes
    head: bytes
    facts: Facts
    flags: int
    keywords: tuple[str, ...]
    received_at: int
    received_offset_minutes: int
    placed: Placed = Placed(0, 0, 0, 0)
    folder_id: int = 0
    check_results: int = 0

    @property
    def size(self) -> int:
        return len(self.head) + len(self.octets)


def encoded(text: str) -> str:
    return text if text.isascii() else f"=?utf-8?q?{''.join(f'={octet:02X}' for octet in text.encode())}?="


def compose(rng: random.Random) -> bytes:
    """A message of a random shape."""
    words = rng.sample(WORDS, 3)
    people = [
        "Alice <alice@example.test>",
        "Bob <bob@example.com>",
        "carol@example.org",
        f"{encoded('Zoë')} <zoe@example.net>",
    ]
    lines = [f"From: {rng.choice(people)}", f"To: {', '.join(rng.sample(people, 2))}"]
    subject = encoded(" ".join(rng.sample(words, 2)))
    if rng.random() < 0.1:
        subject = " ".join(["padding"] * 300) + " " + subject  # longer than the kept part of a folded key
    lines.append(f"Subject: {subject}")
    if rng.random() < 0.3:
        lines.append("Cc: bob@example.com")
    if rng.random() < 0.2:
        lines.append("Bcc: carol@example.org")
    if rng.random() < 0.2:
        lines[1] = f"To: {encoded(rng.choice(WORDS[:4]))} list: {people[0]}, {people[1]};"
    elif rng.random() < 0.1:
        lines[1] = "To: undisclosed-restaurant:;"
    if rng.random() < 0.08:
        lines[1] = "To: " + ",\r\n ".join(f"u{number}@example.org" for number in range(1_100))
    if rng.random() < 0.8:
        lines.append(
            f"Date: Mon, {rng.randint(20, 23)} Sep 2026 {rng.randint(0, 23):02}:30:00 "
            + rng.choice(["+0000", "-0800", "+1300"])
        )
    if rng.random() < 0.5:
        lines.append(f"X-Note: {encoded(rng.choice(words))}")
    body = "\r\n".join(" ".join(rng.choices(words, k=4)) for _ in range(3))
    match rng.randint(0, 5):
        case 0:
            lines += ["Content-Type: text/html; charset=utf-8"]
            raw = f"<p>{body}</p><b>re</b>st&amp;".encode()
        case 1:
            lines += ["Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: base64"]
            raw = base64.encodebytes(body.encode()).replace(b"\n", b"\r\n")
        case 2:
            lines += ["Content-Type: multipart/mixed; boundary=b"]
            text = f"Content-Type: text/plain; charset=utf-8\r\n\r\n{body}"
            raw = f"--b\r\n{text}\r\n--b\r\nContent-Type: application/pdf\r\n\r\nnoon\r\n--b--".encode()
        case 3:
            lines += ["Content-Type: message/rfc822"]
            raw = f"Subject: inner {words[0]}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}".encode()
        case 4:
            lines += ["Content-Type: text/plain; charset=iso-2022-jp"]
            raw = "日本 noon".encode("iso-2022-jp")
        case _:
            raw = body.encode("ascii", "ignore")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw + b"\r\n"


async def fill(
    box: Box, rng: random.Random, count: int, *, files: float = 0.0, directory: Path | None = None
) -> list[Known]:
    """Random messages in the Inbox and the Archive, in UID order; some of them in files."""
    known: list[Known] = []
    for number in range(count):
        octets = compose(rng)
        made = Known(
            octets,
            HEAD if rng.random() < 0.5 else b"",
            scan(octets),
            rng.choice([0, 1, 3, 5, 9]),
            tuple(rng.sample(["Work", "$Junk", "a.b"], rng.randint(0, 2))),
            NOW + rng.randint(-48, 48) * HOUR + rng.choice([0, 1]),
            rng.choice([0, -480, 780]),
            folder_id=box.archive if rng.random() < 0.2 else box.inbox,
            check_results=sum(rng.randint(0, 8) << method.shift for method in CheckMethod if rng.random() < 0.5),
        )
        file_name = None
        if rng.random() < files:
            assert directory is not None
            file_name = f"m{number}"
            (directory / file_name).write_bytes(octets)
        made.placed = await box.write(_place, made, file_name)
        known.append(made)
    return known


def _place(tx: Connection, place: Place, made: Known, file_name: str | None) -> Placed:
    new = NewContent(
        len(made.octets),
        hashlib.sha256(made.octets).digest(),
        parts.encode(made.facts.tree),
        None if file_name else made.octets,
        file_name,
    )
    (content_id,) = contents.insert_many(tx, [new], NOW)
    message = NewMessage(
        content_id,
        len(made.octets),
        listing_of(made.facts)._replace(
            checks=b"kept" if made.check_results else b"", check_results=made.check_results
        ),
        head=made.head,
        flags=made.flags,
        keywords=made.keywords,
        received_at=made.received_at,
        received_offset_minutes=made.received_offset_minutes,
    )
    return add_to(tx, place, made.folder_id, [message])[0]


def random_restriction(rng: random.Random, known: list[Known], depth: int = 0) -> Restriction:
    """A tree of any kind of condition."""
    kind = rng.randint(0 if depth < 4 else 3, 11)
    if kind <= 1:
        inner = tuple(random_restriction(rng, known, depth + 1) for _ in range(rng.randint(0, 3)))
        return AllOf(inner) if kind else AnyOf(inner)
    if kind == 2:
        return Not(random_restriction(rng, known, depth + 1))
    one = rng.choice(known)
    match kind:
        case 3 | 4:
            return HasText(rng.choice(list(TextField)), _needle(rng, one))
        case 5:
            return HasHeader(
                rng.choice(["subject", "x-note", "return-path", "cc"]), rng.choice(["", _needle(rng, one)])
            )
        case 6:
            compared = rng.choice(list(Property))
            value = {
                Property.SIZE_OCTETS: one.size,
                Property.CHANGE_NUMBER: one.placed.change_number,
                Property.UID: one.placed.uid,
                Property.MESSAGE_ID: one.placed.message_id,
            }[compared]
            return Compare(compared, rng.choice(list(Comparison)), value)
        case 7:
            moments = [None, *(NOW + rng.randint(-60, 60) * HOUR for _ in range(2))]
            return Within(rng.choice(list(Moment)), rng.choice(moments), rng.choice(moments), rng.random() < 0.5)
        case 8:
            mask = rng.choice([1, 3, 5, 8, 31])
            return HasFlags(mask, rng.choice([0, 1, mask]))
        case 9:
            return HasKeyword(rng.choice(["work", "$JUNK", "A.B", "unknown"]))
        case 10:
            return Checked(rng.choice(list(CheckMethod)), frozenset(rng.sample(range(9), rng.randint(0, 4))))
        case _:
            numbers = [rng.randint(1, len(known) + 2) for _ in range(rng.choice([0, 1, 12]))]
            return Among(rng.choice([None, one.folder_id]), IdSet.of(numbers))


def _needle(rng: random.Random, one: Known) -> str:
    text = rng.choice(
        [
            *WORDS,
            "<zoe@",
            "u1050@",
            "noon rest",
            "example.org>",
            "\0",
            "x-note: ",
            "padding padding",
            one.facts.summary.subject,
        ]
    )
    folded = fold(text)
    start = rng.randint(0, max(0, len(folded) - 4))
    return folded[start:] or "x"


def holds(one: Known, node: Restriction) -> bool:
    """Whether the condition is true of the message."""
    summary = one.facts.summary
    match node:
        case AllOf(parts):
            return all(holds(one, part) for part in parts)
        case AnyOf(parts):
            return any(holds(one, part) for part in parts)
        case Not(part):
            return not holds(one, part)
        case Checked(method, results):
            return (one.check_results >> method.shift) & CHECK_MASK in results
        case HasText(field, needle):
            header = header_text(one.head + one.octets[: one.facts.tree.body_start])
            body = "".join(text_chunks(one.octets, one.facts.tree))
            who = {
                TextField.FROM: summary.from_,
                TextField.TO: summary.to,
                TextField.CC: summary.cc,
                TextField.BCC: summary.bcc,
            }
            if field in who:
                return needle in fold(shown(who[field]))
            if field is TextField.ANY:
                return needle in fold(header) or needle in fold(body)
            return needle in fold(summary.subject if field is TextField.SUBJECT else body)
        case HasHeader(name, needle):
            return any(
                needle in fold(value)
                for value in field_values(one.head + one.octets[: one.facts.tree.body_start], name)
            )
        case Compare(compared, comparison, value):
            number = {
                Property.SIZE_OCTETS: one.size,
                Property.CHANGE_NUMBER: one.placed.change_number,
                Property.UID: one.placed.uid,
                Property.MESSAGE_ID: one.placed.message_id,
            }[compared]
            relation = {Comparison.LESS: lt, Comparison.EQUAL: eq, Comparison.GREATER: gt, Comparison.AT_LEAST: ge}
            return bool(relation[comparison](number, value))
        case Within(moment, not_before, before, local):
            at, offset = one.received_at, one.received_offset_minutes
            if moment is Moment.SENT_AT:
                if summary.sent_at is None:
                    return False
                at, offset = microseconds(summary.sent_at), summary.sent_offset_minutes
            at += offset * 60_000_000 if local else 0
            return (not_before is None or at >= not_before) and (before is None or at < before)
        case HasFlags(mask, value):
            return one.flags & mask == value
        case HasKeyword(keyword):
            return keyword.lower() in (name.lower() for name in one.keywords)
        case Among(folder_id, ids):
            if folder_id is None:
                return one.placed.message_id in ids
            return one.folder_id == folder_id and one.placed.uid in ids
