"""The messages named in transcripts."""

from __future__ import annotations

MESSAGES = {
    "plain": b"From: bob@example.test\r\nTo: alice@example.test\r\nSubject: plain\r\n\r\nHello.\r\n",
    "dots": b"From: bob@example.test\r\nSubject: dots\r\n\r\n.\r\n..\r\n.a\r\na.\r\n\r\n.\r\n",
    "short": b"From: bob@example.test\r\nSubject: short\r\n\r\none\r\n.two\r\nthree\r\n",
}
