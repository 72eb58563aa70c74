"""A last line without CRLF stays unchanged through every protocol; only POP3 adds one on the wire."""

from __future__ import annotations

import imaplib
import poplib
import re
import time

import pytest

from restante.v1.message_pb2 import Section, SectionKind
from tests.end_to_end.test_client import connected
from tests.harness.demo import Demo

pytestmark = pytest.mark.end_to_end

OPEN = b"Subject: the last line\r\n\r\none\r\n.two"
"""Without a last CRLF, and with a dot that POP3 doubles."""


async def test_a_last_line_without_an_end_is_kept_octet_for_octet(demo: Demo) -> None:
    with imaplib.IMAP4_SSL("localhost", demo.port("imaps"), ssl_context=demo.tls()) as imap:
        imap.login("carol@example.test", demo.password("carol"))
        imap.select()
        kept = int(imap.response("UIDNEXT")[1][0] or b"0")
        imap.append("INBOX", "", "", OPEN)
        async with connected(demo, "carol") as carol:  # type: ignore[attr-defined]
            added = await carol.messages.append("inbox", OPEN)
            assert (added.size_octets, added.line_ends_changed) == (len(OPEN), False)
            assert await carol.contents.read(added.message_id) == OPEN
            text = Section(kind=SectionKind.SECTION_KIND_TEXT)
            assert await carol.contents.read(added.message_id, text) == b"one\r\n.two"
        for _ in range(100):  # until the session has reports of both
            if imap.uid("SEARCH", f"UID {kept + 1}")[1][0]:
                break
            time.sleep(0.1)
        for uid in (kept, kept + 1):
            _, found = imap.uid("FETCH", str(uid), "(RFC822.SIZE BODY.PEEK[])")
            assert found[0][1] == OPEN
            assert int(re.findall(rb"RFC822.SIZE (\d+)", found[0][0])[0]) == len(OPEN)
            _, hits = imap.uid("SEARCH", f"UID {uid} BODY two SMALLER {len(OPEN) + 1} LARGER {len(OPEN) - 1}")
            assert hits == [str(uid).encode()]
    pop = poplib.POP3_SSL("localhost", demo.port("pop3s"), context=demo.tls())
    pop.user("carol@example.test")
    pop.pass_(demo.password("carol"))
    count, _octets = pop.stat()
    for number in (count - 1, count):
        answer, lines, octets = pop.retr(number)
        assert b"\r\n".join(lines) == OPEN
        assert octets == len(OPEN) + len(b"\r\n")  # of the wire
        assert answer == b"+OK %d octets" % len(OPEN)
        pop.dele(number)
    pop.quit()
