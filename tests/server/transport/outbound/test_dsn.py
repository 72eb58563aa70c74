"""Delivery status notifications against the grammar of RFC 3464, 6522 and 6533, by two readers: Python's email package,
and one of this test's own, which knows only the RFCs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from quopri import decodestring
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.envelope.parameters import encode_utf_8_address
from restante_mail.envelope.xtext import encode_xtext
from restante_server.transport.outbound.dsn import LINE, Action, Report, Reported, build

NOW = datetime(2029, 1, 1, 12, tzinfo=UTC)
ARRIVED = datetime(2029, 1, 1, 10, tzinfo=UTC)
HEADER = b"From: a@x\r\nSubject: Hello\r\n"
WHOLE = HEADER + b"\r\nAll of it.\r\n"
FIELD = re.compile(r"([!-9;-~]+):[ \t]*(.*)", re.DOTALL)
TYPED = re.compile(r"[A-Za-z0-9-]+; ?\S.*")  # RFC 3464 2.1.2
STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")  # RFC 3464 2.3.4
PER_MESSAGE = ("original-envelope-id", "reporting-mta", "arrival-date")
PER_RECIPIENT = (
    "original-recipient",
    "final-recipient",
    "action",
    "status",
    "remote-mta",
    "diagnostic-code",
    "final-log-id",
    "will-retry-until",
)


def report(*recipients: Reported, to: str = "alice@example.test", envelope_id: str = "", **facts: Any) -> Report:
    given: dict[str, Any] = {"returned": HEADER, "returned_whole": False} | facts
    return Report(
        reporting_mta="mx.example.test",
        postmaster="postmaster@example.test",
        log_id="17",
        to=to,
        envelope_id=envelope_id,
        arrived_at=ARRIVED,
        now=NOW,
        message_id="<1@mx.example.test>",
        boundary="report-0123456789abcdef",
        recipients=recipients,
        **given,
    )


def failed(path: str = "eve@example.net", **facts: Any) -> Reported:
    return Reported(path, facts.pop("original", ""), facts.pop("action", Action.FAILED), "5.1.1", **facts)


def fields(block: str) -> list[tuple[str, str]]:
    """Unfolded fields (RFC 5322 2.2.3), names in lower case."""
    found = []
    for line in re.sub(r"\r\n(?=[ \t])", "", block).split("\r\n"):
        match = FIELD.fullmatch(line)
        assert match, line
        found.append((match[1].lower(), match[2]))
    return found


class Read:
    """A report as this test's own reader sees it."""

    def __init__(self, octets: bytes) -> None:
        head, _, body = octets.partition(b"\r\n\r\n")
        assert octets.count(b"\n") == octets.count(b"\r") == octets.count(b"\r\n")  # RFC 5322 2.3
        assert max(map(len, octets.split(b"\r\n"))) <= 998  # RFC 5322 2.1.1
        self.header = dict(fields(head.decode()))
        kind = self.header["content-type"]
        assert kind.startswith("multipart/report;") and "report-type=delivery-status" in kind  # RFC 6522 3
        boundary = re.search(r'boundary="([^"]+)"', kind)
        assert boundary
        pieces = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())
        assert pieces[0] == b"" and pieces[-1] == b"--\r\n" and len(pieces) == 5  # three parts, RFC 6522 3
        self.parts = [self._part(piece[2:]) for piece in pieces[1:-1]]
        self.encodings = [dict(found)["content-transfer-encoding"] for found, _ in self.parts]
        (self.types) = [dict(found)["content-type"].partition(";")[0] for found, _ in self.parts]
        status = self.parts[1][1].decode()
        assert status.endswith("\r\n")
        blocks = [fields(block) for block in status.removesuffix("\r\n").split("\r\n\r\n")]
        self.message, self.recipients = dict(blocks[0]), [dict(block) for block in blocks[1:]]
        for block, known in ((blocks[0], PER_MESSAGE), *((block, PER_RECIPIENT) for block in blocks[1:])):
            names = [name for name, _ in block]
            assert len(names) == len(set(names)) and set(names) <= set(known)

    @staticmethod
    def _part(piece: bytes) -> tuple[list[tuple[str, str]], bytes]:
        head, _, octets = piece.partition(b"\r\n\r\n")
        found = fields(head.decode())
        if dict(found)["content-transfer-encoding"] == "quoted-printable":
            octets = decodestring(octets)
        return found, octets


def check(built: Report) -> Read:
    """Read a report twice, and hold it to the grammar and to its facts."""
    octets = build(built)
    seen = Read(octets)
    by_library = message_from_bytes(octets, policy=policy.default)
    assert not by_library.defects
    status: Any = list(by_library.iter_parts())[1]
    if built.to.isascii():  # the library knows no message/global-delivery-status
        counts = [len(block.items()) for block in status.get_payload()]
        assert counts == [len(block) for block in (seen.message, *seen.recipients)]
    assert seen.types[0] == "text/plain"
    in_utf8 = not built.to.isascii()
    assert seen.types[1] == ("message/global-delivery-status" if in_utf8 else "message/delivery-status")
    assert in_utf8 or built.returned_whole or octets.isascii()
    assert TYPED.fullmatch(seen.message["reporting-mta"])  # RFC 3464 2.2.2: required
    assert parsedate_to_datetime(seen.message["arrival-date"]) == ARRIVED
    assert ("original-envelope-id" in seen.message) == bool(built.envelope_id)  # RFC 3461 6.3
    assert len(seen.recipients) == len(built.recipients) >= 1
    for block, told in zip(seen.recipients, built.recipients, strict=True):
        assert TYPED.fullmatch(block["final-recipient"])  # RFC 3464 2.3.2: required
        assert block["action"] == told.action.value  # RFC 3464 2.3.3
        assert STATUS.fullmatch(block["status"])
        assert ("original-recipient" in block) == bool(told.original_recipient)  # RFC 3464 2.3.1
        assert ("remote-mta" in block) == bool(told.remote_host)  # RFC 3464 2.3.5
        if "diagnostic-code" in block:  # RFC 3464 2.3.6: of type smtp only if it is the remote server's word
            assert block["diagnostic-code"].startswith("smtp; " if told.remote_host else "x-restante; ")
        assert ("will-retry-until" in block) == (told.will_retry_until is not None)  # RFC 3464 2.3.9
    return seen


@pytest.mark.parametrize(
    ("given", "to", "field"),
    [
        ("", "a@x", None),
        ("rfc822;e+2Bve@x", "a@x", "rfc822; e+ve@x"),
        ("rfc822;e+2Bve@x", "ä@x", "rfc822; e+ve@x"),
        ("X400;/C+3DDE/", "a@x", "X400; /C=DE/"),
        ("utf-8;b\\x{FC}cher+tag@x", "a@x", "utf-8; b\\x{FC}cher+tag@x"),  # RFC 6533 3: ASCII form in an ASCII report
        ("UTF-8;b\\x{FC}cher+2Btag@x", "ä@x", "utf-8; bücher+2Btag@x"),  # which is no xtext
        ("utf-8;a\\x{A}b\\x{110000}\\x{D800}@x", "ä@x", "utf-8; a\\x{A}b\\x{110000}\\x{D800}@x"),
        ("rfc822;a+0D+0Ab@x", "a@x", "rfc822; a+0D+0Ab@x"),  # no line ends
    ],
)
def test_the_original_recipient_is_the_senders_spelling(given: str, to: str, field: str | None) -> None:
    seen = check(report(failed(original=given), to=to))
    assert seen.recipients[0].get("original-recipient") == field


@pytest.mark.parametrize(
    ("path", "to", "field"),
    [
        ("eve@example.net", "a@x", "rfc822; eve@example.net"),
        ("bücher@x", "a@x", "utf-8; b\\x{FC}cher@x"),
        ("bücher@x", "ä@x", "utf-8; bücher@x"),
        ("eve@example.net", "ä@x", "rfc822; eve@example.net"),
    ],
)
def test_the_final_recipient_has_the_type_of_its_characters(path: str, to: str, field: str) -> None:
    # RFC 6533 3, 4
    assert check(report(failed(path), to=to)).recipients[0]["final-recipient"] == field


UTF_8 = "Subject: Grüße\r\n".encode()


@pytest.mark.parametrize(
    ("returned", "whole", "to", "media_type", "encoding"),
    [
        (HEADER, False, "a@x", "text/rfc822-headers", "7bit"),  # RFC 6522 4
        (WHOLE, True, "a@x", "message/rfc822", "7bit"),
        (WHOLE + b"\xff\r\n", True, "a@x", "message/rfc822", "8bit"),
        (UTF_8, False, "a@x", "message/global-headers", "quoted-printable"),  # RFC 6533 6
        (UTF_8 + b"\r\nHi\r\n", True, "ä@x", "message/global", "8bit"),  # RFC 6532 3.7
        (b"Subject: Gr\xfc\xdfe\r\n", False, "a@x", "text/rfc822-headers", "quoted-printable"),
        (b"Subject: Gr\xfc\xdfe\r\n\r\nHi\r\n", True, "a@x", "message/rfc822", "8bit"),
    ],
)
def test_what_is_returned_has_the_media_type_of_its_octets(
    returned: bytes, whole: bool, to: str, media_type: str, encoding: str
) -> None:
    seen = check(report(failed(), to=to, returned=returned, returned_whole=whole))
    assert (seen.types[2], seen.encodings[2], seen.parts[2][1]) == (media_type, encoding, returned)


@pytest.mark.parametrize("action", Action)
def test_a_report_of_several_recipients_has_a_block_for_each(action: Action) -> None:
    until = NOW if action is Action.DELAYED else None
    several = [failed(f"e{n}@x", action=action, will_retry_until=until, remote_host="mx.x" * (n % 2)) for n in range(5)]
    seen = check(report(*several, envelope_id="a+2Db"))
    assert seen.message["original-envelope-id"] == "a-b"
    assert [block["final-recipient"] for block in seen.recipients] == [f"rfc822; e{n}@x" for n in range(5)]
    assert {block["final-log-id"] for block in seen.recipients} == {"17"}  # RFC 3464 2.3.8
    assert seen.header["from"] == "Mail Delivery System <postmaster@example.test>"  # RFC 3464 2
    assert seen.header["to"] == "<alice@example.test>"  # RFC 3461 6.1
    assert seen.header["auto-submitted"] == "auto-replied"  # RFC 3834 5


anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
addresses = st.builds("{}@{}".format, names, st.sampled_from(["x", "example.net", "bücher.example"]))
printable = st.text(st.characters(min_codepoint=33, exclude_categories=["Cs"]), min_size=1)
originals = st.one_of(
    st.just(""),
    st.builds(lambda text: f"rfc822;{encode_xtext(text)}", printable),
    st.builds(lambda text: f"utf-8;{encode_utf_8_address(text)}", addresses),
)
hosts = st.sampled_from(["", "mx.example.net", "[192.0.2.1]"])
told = st.builds(Reported, addresses, originals, st.just(Action.FAILED), st.just("5.1.1"), anything, hosts)


@given(st.lists(told, min_size=1, max_size=4), st.sampled_from(["a@x", "zoë@x"]), st.sampled_from(["", "QQ+2B314"]))
def test_any_report_keeps_the_grammar(recipients: Sequence[Reported], to: str, envelope_id: str) -> None:
    check(report(*recipients, to=to, envelope_id=envelope_id))


def test_a_long_reply_is_folded() -> None:
    built = build(report(failed(diagnostic="550 " + "no " * 150, remote_host="mx.example.net")))
    assert max(map(len, built.split(b"\r\n"))) <= LINE + 2
