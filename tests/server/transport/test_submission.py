"""Submissions: permitted senders, changes of the message, recipients, the sent copy and the reports."""

from __future__ import annotations

import re
import secrets
from email import message_from_bytes, policy
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select

from restante.errors import (
    InvalidAddress,
    InvalidArgument,
    InvalidContent,
    InvalidSession,
    MailLoop,
    NoRecipients,
    PermissionDenied,
    RecipientNotFound,
    RequestIdRequired,
    RequestIdReused,
    SenderNotPermitted,
    SubmissionNotCancellable,
    SubmissionNotFound,
    UploadNotFound,
)
from restante.v1 import checks_pb2
from restante.v1.admin_pb2 import SentCopyPolicy
from restante.v1.content_pb2 import UploadKind
from restante.v1.message_pb2 import Attachment, CreateDraftRequest, Draft, ListRecoverableMessagesRequest
from restante.v1.session_pb2 import Scope
from restante.v1.submission_pb2 import (
    CancelSubmissionRequest,
    EnvelopeOptions,
    GetSubmissionRequest,
    ListSubmissionsRequest,
    SubmitMessageRequest,
)
from restante.v1.transport_pb2 import AcceptSubmissionRequest
from restante.v1.types_pb2 import MailAddress
from restante_server.accounts import lifecycle
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.directory import accounts, domains, rights
from restante_server.directory.domains import Resending
from restante_server.store import folders
from restante_server.transport.schedule import DAY, HOUR
from restante_server.transport.states import State
from tests.server.transport.world import MESSAGE, TRACE, World

SENT, DRAFTS = 2, 3
LETTER = (
    b"From: Alice <alice@example.test>\r\nTo: Bob <bob@example.test>\r\n"
    b"Bcc: carol@example.test,\r\n eve@example.net\r\nSubject: Lunch\r\n"
    b"Date: Mon, 1 Jan 2029 10:00:00 +0000\r\nMessage-ID: <1@example.test>\r\n\r\nBcc: not a field\r\n"
)
WITHOUT_BCC = LETTER.replace(b"Bcc: carol@example.test,\r\n eve@example.net\r\n", b"")


@pytest.mark.parametrize("form", ["content", "upload"])
async def test_bcc_is_removed_octet_for_octet_and_kept_by_the_sender(world: World, form: str) -> None:
    # RFC 6409 8
    if form == "content":
        response = await world.submit("alice", LETTER)
    else:
        response = await world.submit("alice", upload_id=await world.upload("alice", LETTER))
    (bobs,), (carols,), (kept,) = [
        await world.letters("bob"),
        await world.letters("carol"),
        await world.letters("alice", SENT),
    ]
    assert bobs.content == carols.content == WITHOUT_BCC
    assert kept.content == LETTER
    assert kept.head == b""
    assert kept.message_id == response.sent_message_id
    assert response.commit.change_number > 0
    (lease,) = await world.lease()
    octets = await world.read_outbound(lease)
    assert octets.endswith(b"\r\n" + WITHOUT_BCC)
    assert octets.count(b"Bcc") == 1
    assert octets[: -len(WITHOUT_BCC)].startswith(b"Received: by mx.example.test")
    states = [(one.forward_path, State(one.state)) for one in response.submission.recipients]
    assert states == [
        ("bob@example.test", State.DELIVERED),
        ("carol@example.test", State.DELIVERED),
        ("eve@example.net", State.PENDING),
    ]


async def test_a_large_upload_without_need_of_change_is_not_copied(world: World) -> None:
    octets = WITHOUT_BCC + b"0123456789\r\n" * 200_000
    response = await world.submit("alice", upload_id=await world.upload("alice", octets))
    assert (await world.letters("bob"))[0].content == octets
    assert (await world.letters("alice", SENT))[0].content == octets
    with pytest.raises(UploadNotFound):
        await world.submit("alice", upload_id=secrets.token_bytes(16))
    big = LETTER + b"0123456789\r\n" * 200_000
    again = await world.submit("alice", upload_id=await world.upload("alice", big))
    assert again.submission.submission_id > response.submission.submission_id
    assert (await world.letters("bob"))[1].content == WITHOUT_BCC + b"0123456789\r\n" * 200_000
    await world.lease()


async def test_an_upload_is_used_up_and_a_repeat_still_gets_its_answer(world: World) -> None:
    upload_id, request_id = await world.upload("alice", WITHOUT_BCC), secrets.token_bytes(16)
    first = await world.submit("alice", upload_id=upload_id, request_id=request_id)
    again = await world.submit("alice", upload_id=upload_id, request_id=request_id)
    assert first == again
    with pytest.raises(UploadNotFound):
        await world.submit("alice", upload_id=upload_id)
    with pytest.raises(RequestIdReused):
        await world.submit("alice", WITHOUT_BCC, request_id=request_id)
    world.clock.ahead += 6 * DAY
    assert (await world.submit("alice", upload_id=upload_id, request_id=request_id)).submission == first.submission
    assert len(await world.letters("bob")) == 1


async def test_others_uploads_are_nobodys(world: World) -> None:
    upload_id = await world.upload("bob", WITHOUT_BCC)
    with pytest.raises(UploadNotFound):
        await world.submit("alice", upload_id=upload_id)


async def test_a_missing_date_and_message_id_are_added(world: World) -> None:
    # RFC 6409 8
    await world.submit("alice", b"From: alice@example.test\nTo: bob@example.test\n\nhi")
    (letter,) = await world.letters("bob")
    parsed = message_from_bytes(letter.content, policy=policy.default)
    assert parsed["Message-ID"].endswith("@mx.example.test>")
    assert parsed["Date"].datetime is not None
    assert letter.content.endswith(b"From: alice@example.test\r\nTo: bob@example.test\r\n\r\nhi")
    (kept,) = await world.letters("alice", SENT)
    assert kept.content == letter.content


async def test_forged_trace_fields_are_cut(world: World) -> None:
    await world.submit("alice", b"Delivered-To: bob@example.test\r\n" + WITHOUT_BCC)
    assert (await world.letters("bob"))[0].content == WITHOUT_BCC


@pytest.mark.parametrize(
    ("fields", "reverse_path", "right"),
    [
        ("From: alice@example.test", None, True),
        ("From: ALICE@Example.TEST", None, True),
        ("From: alice+lists@example.test", None, True),
        ("From: alice@example.test", "alice+bounces@example.test", True),
        ("From: alice@example.test", "", True),
        ("From: sales@example.test", None, True),
        ("From: sales+x@example.test", "sales@example.test", True),
        ("From: chained@example.test", None, True),
        ("From: alice@example.test, sales@example.test\r\nSender: alice@example.test", None, True),
        ("From: bob@example.test", None, False),
        ("From: team@example.test", None, False),
        ("From: eve@example.net", None, False),
        ("From: anything@example.test", None, False),
        ("From: postmaster@example.test", None, False),
        ("From: alicia@example.test", None, False),
        ("From: alice@example.test.example.net", None, False),
        ("From: alice@example.test, bob@example.test\r\nSender: alice@example.test", None, False),
        ("From: alice@example.test\r\nSender: bob@example.test", None, False),
        ("From: alice@example.test\r\nResent-From: bob@example.test\r\nResent-To: bob@example.test", None, False),
        ("From: alice@example.test", "bob@example.test", False),
        ("From: alice@example.test", "team@example.test", False),
        ("From: \"alice@example.test\"@example.net", None, False),
    ],
)  # fmt: skip
async def test_only_own_names_may_be_used(world: World, fields: str, reverse_path: str | None, right: bool) -> None:
    await world.add_alias("sales@example.test", "alice@example.test")
    await world.add_alias("chained@example.test", "sales@example.test")
    await world.add_alias("team@example.test", "alice@example.test", "bob@example.test")
    await world.set_catch_all("alice@example.test")
    given: dict[str, Any] = {} if reverse_path is None else {"reverse_path": reverse_path}
    letter = f"{fields}\r\nTo: bob@example.test\r\n\r\nhi\r\n".encode()
    if right:
        await world.submit("alice", letter, **given)
        path = "alice@example.test" if reverse_path is None else reverse_path
        assert (await world.letters("bob"))[0].head.startswith(f"Return-Path: <{path}>\r\n".encode())
    else:
        with pytest.raises(SenderNotPermitted):
            await world.submit("alice", letter, **given)
        assert await world.letters("bob") == []


@pytest.mark.parametrize(
    ("letter", "recipients", "error"),
    [
        (b"From: alice@example.test\r\n\r\nhi\r\n", (), NoRecipients),
        (b"From: alice@example.test\r\nTo: undisclosed:;\r\n\r\nhi\r\n", (), NoRecipients),
        (WITHOUT_BCC, ("bob@example.test", "nobody@example.test", "eve@example.net"), RecipientNotFound),
        (WITHOUT_BCC, ("bob@example.test", "no address"), InvalidAddress),
        (b"From: alice@example.test\r\nTo: bob\r\n\r\nhi\r\n", (), InvalidAddress),
        (b"From: alice@example.test\r\nTo: bob@example.test\r\n\r\nhi\0\r\n", (), InvalidContent),
        (b"From: alice@example.test\r\nFrom: alice@example.test\r\n\r\nhi\r\n", ("bob@example.test",), InvalidContent),
        (b"Received: by x\r\n" * 101 + WITHOUT_BCC, (), MailLoop),
    ],
)
async def test_what_cannot_be_sent_is_refused_whole(
    world: World, letter: bytes, recipients: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await world.submit("alice", letter, recipients=recipients)
    assert await world.letters("bob") == await world.letters("alice", SENT) == await world.lease() == []


@pytest.mark.parametrize(
    ("policy_name", "by_api", "by_smtp"),
    [("API", 1, 0), ("ALWAYS", 1, 1), ("NEVER", 0, 0)],
)
async def test_the_sender_keeps_a_copy_as_the_account_says(
    world: World, policy_name: str, by_api: int, by_smtp: int
) -> None:
    chosen = SentCopyPolicy.Value(f"SENT_COPY_POLICY_{policy_name}")
    await world.db.write(Write(lambda tx: lifecycle.change(tx, "alice@example.test", accounts.Edit(sent_copy=chosen))))
    await world.submit("alice", WITHOUT_BCC, recipients=["bob@example.test"])
    assert len(await world.letters("alice", SENT)) == by_api
    transport_id = await world.submit_by_smtp("alice", WITHOUT_BCC, recipients=["bob@example.test"])
    assert transport_id > 0
    assert len(await world.letters("alice", SENT)) == by_api + by_smtp
    assert len(await world.letters("bob")) == 2
    assert (await world.letters("bob"))[1].head.endswith(TRACE.encode())


async def test_a_sent_folder_that_goes_at_that_moment_is_no_reason_not_to_send(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "with_role", lambda tx, place, role: rights.system(place.mailbox_id, 999))
    response = await world.submit("alice", WITHOUT_BCC)
    assert response.sent_message_id == 0
    assert len(await world.letters("bob")) == 1


async def test_only_a_gateway_says_that_mail_came_by_smtp(world: World) -> None:
    request = AcceptSubmissionRequest(submission=_request(WITHOUT_BCC), trace_field="Received: by bank.example.net\r\n")
    for caller in (world.session("alice"), world.session("alice", Scope.SCOPE_SMTP_SUBMIT)):
        with pytest.raises(PermissionDenied):
            await world.run(request, caller)
    with pytest.raises(InvalidSession):
        await world.run(request, world.gateway())
    assert await world.letters("bob") == []


async def test_a_submission_by_smtp_is_taken_once_and_has_one_trace_field(world: World) -> None:
    request = AcceptSubmissionRequest(submission=_request(WITHOUT_BCC), trace_field=TRACE)
    gateway = world.session("alice", Scope.SCOPE_SMTP_SUBMIT, "smtp")
    first, again = await world.run(request, gateway), await world.run(request, gateway)
    assert first == again
    assert len(await world.letters("bob")) == 1
    for field in ("", "X-Trace: no\r\n", TRACE + TRACE, TRACE.rstrip()):
        with pytest.raises(InvalidArgument) as refused:
            await world.run(AcceptSubmissionRequest(submission=_request(WITHOUT_BCC), trace_field=field), gateway)
        assert refused.value.metadata["field"] == "trace_field"
    with pytest.raises(RequestIdRequired):
        await world.run(AcceptSubmissionRequest(trace_field=TRACE), gateway)


def _request(content: bytes, **fields: Any) -> Any:
    return SubmitMessageRequest(content=content, request_id=secrets.token_bytes(16), **fields)


async def test_a_message_to_oneself_and_its_copy(world: World) -> None:
    await world.submit("alice", WITHOUT_BCC, recipients=["alice@example.test"])
    (kept,), (got,) = await world.letters("alice", SENT), await world.letters("alice")
    assert (kept.flags, got.flags) == (1, 0)


async def test_a_full_local_mailbox_is_reported_to_the_sender(world: World) -> None:
    await world.add_account("dora@example.test", quota_octets=10)
    response = await world.submit("alice", WITHOUT_BCC, recipients=["dora@example.test", "bob@example.test"])
    assert [State(one.state) for one in response.submission.recipients] == [State.FAILED, State.DELIVERED]
    await world.settle()
    assert b"Status: 5.2.2\r\n" in (await world.letters("alice"))[0].content


async def test_a_draft_of_parts_is_sent(world: World) -> None:
    attached = await world.upload("alice", b"\x00\x01\x02", UploadKind.UPLOAD_KIND_ATTACHMENT)
    draft = Draft(
        to=[MailAddress(display_name="Bób", address="bob@example.test")],
        bcc=[MailAddress(address="carol@example.test")],
        subject="Grüße",
        text="Hallo\n",
        attachments=[Attachment(file_name="x.bin", media_type="application/x-bin", upload_id=attached)],
    )
    await world.submit("alice", draft=draft)
    parsed = message_from_bytes((await world.letters("carol"))[0].content, policy=policy.default)
    assert parsed["Subject"] == "Grüße"
    assert parsed["From"] == "alice@example.test"
    assert "Bcc" not in parsed
    assert [part.get_content() for part in parsed.iter_attachments()] == [b"\x00\x01\x02"]
    with pytest.raises(UploadNotFound):
        await world.submit("alice", draft=draft)


async def test_a_stored_message_is_sent(world: World) -> None:
    first = await world.submit("alice", LETTER, recipients=["bob@example.test"])
    await world.submit("alice", message_id=first.sent_message_id)
    assert [letter.content for letter in await world.letters("carol")] == [WITHOUT_BCC]
    await world.lease()


async def draft_of(world: World, name: str) -> int:
    """The id of a user's draft to bob."""
    draft = Draft(to=[MailAddress(address="bob@example.test")], subject="soon", text="At noon.\n")
    made = await world.run(CreateDraftRequest(draft=draft, request_id=secrets.token_bytes(16)), world.session(name))
    return int(made.message_id)


@pytest.mark.parametrize("copies", ["API", "NEVER"])
async def test_a_draft_that_is_sent_is_none_any_more(world: World, copies: str) -> None:
    chosen = SentCopyPolicy.Value(f"SENT_COPY_POLICY_{copies}")
    await world.db.write(Write(lambda tx: lifecycle.change(tx, "alice@example.test", accounts.Edit(sent_copy=chosen))))
    message_id = await draft_of(world, "alice")
    assert len(await world.letters("alice", DRAFTS)) == 1
    request_id = secrets.token_bytes(16)
    first = await world.submit("alice", message_id=message_id, request_id=request_id)
    again = await world.submit("alice", message_id=message_id, request_id=request_id)
    assert again == first
    assert await world.letters("alice", DRAFTS) == []
    assert len(await world.letters("alice", SENT)) == (copies == "API")
    assert len(await world.letters("bob")) == 1
    lost = await world.run(ListRecoverableMessagesRequest(), world.session("alice"))
    assert [one.message_id for one in lost.messages] == [message_id]


async def test_a_refused_submission_leaves_the_draft_where_it_is(world: World) -> None:
    message_id = await draft_of(world, "alice")
    with pytest.raises(RecipientNotFound):
        await world.submit("alice", message_id=message_id, recipients=["nobody@example.test"])
    assert len(await world.letters("alice", DRAFTS)) == 1


async def test_scheduled_mail_goes_at_its_time(world: World) -> None:
    moment = Timestamp()
    moment.FromMicroseconds(world.call(world.gateway()).now + 2 * HOUR)
    response = await world.submit("alice", LETTER, send_at=moment)
    assert {State(one.state) for one in response.submission.recipients} == {State.SCHEDULED}
    assert len(await world.letters("alice", SENT)) == 1
    await world.pass_time(HOUR)
    assert await world.letters("bob") == await world.lease() == []
    await world.pass_time(HOUR + 1_000_000)
    assert len(await world.letters("bob")) == len(await world.lease()) == 1


async def test_scheduled_mail_can_be_taken_back_whole(world: World) -> None:
    moment = Timestamp()
    moment.FromMicroseconds(world.call(world.gateway()).now + 2 * HOUR)
    response = await world.submit("alice", LETTER, send_at=moment)
    number = response.submission.submission_id
    with pytest.raises(SubmissionNotFound):
        await world.run(CancelSubmissionRequest(submission_id=number), world.session("bob"))
    cancelled = await world.run(CancelSubmissionRequest(submission_id=number), world.session("alice"))
    assert {State(one.state) for one in cancelled.submission.recipients} == {State.DISCARDED}
    await world.pass_time(3 * HOUR)
    assert await world.letters("bob") == await world.lease() == []
    with pytest.raises(SubmissionNotCancellable):
        await world.run(CancelSubmissionRequest(submission_id=number), world.session("alice"))


async def test_what_is_delivered_or_with_a_relay_cannot_be_taken_back(world: World) -> None:
    number = (await world.submit("alice", LETTER)).submission.submission_id
    await world.lease()
    with pytest.raises(SubmissionNotCancellable):
        await world.run(CancelSubmissionRequest(submission_id=number), world.session("alice"))
    second = (await world.submit("alice", LETTER)).submission.submission_id
    answer = await world.run(CancelSubmissionRequest(submission_id=second), world.session("alice"))
    states = [State(one.state) for one in answer.submission.recipients]
    assert states == [State.DELIVERED, State.DELIVERED, State.DISCARDED]


async def test_submissions_are_listed_latest_first_and_to_their_owner_alone(world: World) -> None:
    made = [(await world.submit("alice", WITHOUT_BCC)).submission for _ in range(5)]
    found, token = [], ""
    while True:
        page = await world.run(ListSubmissionsRequest(page_size=2, page_token=token), world.session("alice"))
        found += page.submissions
        if not (token := page.next_page_token):
            break
    assert found == made[::-1]
    assert found[0].subject == "Lunch"
    got = await world.run(GetSubmissionRequest(submission_id=made[0].submission_id), world.session("alice"))
    assert got.submission == made[0]
    with pytest.raises(SubmissionNotFound):
        await world.run(GetSubmissionRequest(submission_id=made[0].submission_id), world.session("bob"))
    assert not (await world.run(ListSubmissionsRequest(), world.session("bob"))).submissions


@pytest.mark.parametrize(
    ("asked", "recipient", "needed"),
    [(False, "eve@example.net", False), (True, "eve@example.net", True), (False, "\u00e9ve@example.net", True)],
)
async def test_smtputf8_is_needed_where_it_was_asked_for_or_an_address_needs_it(
    world: World, asked: bool, recipient: str, needed: bool
) -> None:  # RFC 6531 3.1: a raw 8-bit header alone does not
    content = "From: alice@example.test\r\nSubject: Bericht f\u00fcr M\u00e4rz\r\n\r\nx\r\n".encode()
    await world.submit("alice", content, recipients=[recipient], options=EnvelopeOptions(smtputf8=asked))
    (lease,) = await world.lease()
    assert lease.options.smtputf8 is needed


async def test_a_missing_from_is_completed_from_the_login(world: World) -> None:  # RFC 6409 8
    await world.submit("alice", b"To: bob@example.test\r\nSubject: x\r\n\r\nhi\r\n")
    (letter,) = await world.letters("bob")
    assert letter.content.startswith(b"From: alice@example.test\r\nDate: ")
    (kept,) = await world.letters("alice", SENT)
    assert b"From: alice@example.test\r\n" in kept.content


async def test_a_name_that_shows_anothers_address_needs_the_right_to_it(world: World) -> None:
    for name in ('"bob@example.test"', "=?utf-8?q?bob=40example=2Etest?="):
        letter = f"From: {name} <alice@example.test>\r\nTo: bob@example.test\r\n\r\nhi\r\n".encode()
        with pytest.raises(SenderNotPermitted) as refused:
            await world.submit("alice", letter)
        assert refused.value.metadata == {"address": "bob@example.test", "field": "From (name)"}
    await world.add_alias("info@example.test", "alice@example.test")
    await world.submit("alice", b'From: "info@example.test" <alice@example.test>\r\nTo: bob@example.test\r\n\r\nhi\r\n')


RESENT = (
    b"Resent-From: alice@example.test\r\nResent-To: bob@example.test\r\nResent-Bcc: carol@example.test\r\n"
    b"Received: from mx.example.net by mx.example.test; now\r\nResent-From: eve@example.net\r\n"
    b"Resent-To: all@example.net\r\n" + MESSAGE
)


async def test_mail_of_others_is_resent_within_the_domain(world: World) -> None:  # RFC 5322 3.6.6
    response = await world.submit("alice", RESENT)
    paths = [one.forward_path for one in response.submission.recipients]
    assert paths == ["bob@example.test", "carol@example.test"]  # of the latest resending alone
    (letter,) = await world.letters("bob")
    assert letter.head.startswith(b"Return-Path: <alice@example.test>")
    added = letter.content[: letter.content.index(b"Resent-From")]
    assert re.fullmatch(rb"Resent-Date: [^\r]+ \+0000\r\nResent-Message-ID: <[^\r@]+@[^\r@]+>\r\n", added)
    assert letter.content[len(added) :] == RESENT.replace(b"Resent-Bcc: carol@example.test\r\n", b"")


@pytest.mark.parametrize(
    ("policy", "recipient", "problem"),
    [
        (
            Resending.WITHIN_DOMAIN,
            "eve@example.net",
            "accounts of example.test may resend messages of other authors only within it, not to eve@example.net",
        ),
        (Resending.NEVER, "bob@example.test", "accounts of example.test may not resend messages of other authors"),
        (Resending.ANYWHERE, "eve@example.net", ""),
        (Resending.WITHIN_DOMAIN, "BOB@Example.TEST", ""),
        (Resending.WITHIN_DOMAIN, "postmaster", ""),
    ],
)
async def test_the_domain_says_who_may_get_resent_mail(
    world: World, policy: Resending, recipient: str, problem: str
) -> None:
    await world.db.write(Write(lambda tx: domains.set_resending(tx, "example.test", policy)))
    if not problem:
        assert (await world.submit("alice", RESENT, recipients=[recipient])).submission.submission_id
        return
    with pytest.raises(SenderNotPermitted) as refused:
        await world.submit("alice", RESENT, recipients=[recipient])
    assert refused.value.metadata["address"] == "dave@example.org"
    assert refused.value.metadata["field"] == "From"
    assert refused.value.metadata["problem"].startswith(problem)


async def test_nobody_resends_in_anothers_name(world: World) -> None:
    with pytest.raises(SenderNotPermitted) as refused:
        await world.submit("bob", RESENT)
    assert refused.value.metadata == {"address": "alice@example.test", "field": "Resent-From"}


async def test_ones_own_mail_may_be_resent_anywhere(world: World) -> None:
    own = b"Resent-From: alice@example.test\r\nFrom: alice@example.test\r\n\r\nhi\r\n"
    assert (await world.submit("alice", own, recipients=["eve@example.net"])).submission.submission_id


async def shown_checks(world: World, name: str, role: int) -> list[bytes]:
    """The results of checks that the messages of a folder show."""
    message, folder, listing = schema.message, schema.folder, schema.listing
    statement = (
        select(listing.c.checks)
        .join(message, (listing.c.mailbox_id == message.c.listed_in) & (listing.c.content_id == message.c.content_id))
        .join(folder, (folder.c.mailbox_id == message.c.mailbox_id) & (folder.c.folder_id == message.c.folder_id))
        .where(message.c.mailbox_id == world.people[name].mailbox_id, folder.c.role == role)
    )
    return list(await world.db.read(lambda tx: tx.scalars(statement).all()))


@pytest.mark.parametrize("copies", ["never", "always"])
async def test_a_received_message_that_is_submitted_unchanged_is_not_a_checked_one(world: World, copies: str) -> None:
    """The results of its reception say nothing about the submission, whose author has logged in."""
    policy_of_copies = {
        "never": SentCopyPolicy.SENT_COPY_POLICY_NEVER,
        "always": SentCopyPolicy.SENT_COPY_POLICY_ALWAYS,
    }
    edit = accounts.Edit(sent_copy=policy_of_copies[copies])
    await world.db.write(Write(lambda tx: lifecycle.change(tx, "alice@example.test", edit, None)))
    dmarc = checks_pb2.DmarcCheck(
        result=checks_pb2.CHECK_RESULT_PASS, author_domain="example.test", policy=checks_pb2.DMARC_POLICY_NONE
    )
    passed = checks_pb2.MessageChecks(dmarc=dmarc)
    for checks in (passed, None):
        await world.accept(["alice@example.test"], WITHOUT_BCC, checks=checks)
    received = await world.letters("alice")
    for letter in received:
        await world.submit("alice", message_id=letter.message_id)
    assert [letter.content for letter in await world.letters("bob")] == [WITHOUT_BCC] * 2
    assert sorted(await shown_checks(world, "alice", 1)) == [b"", passed.SerializeToString()]
    assert await shown_checks(world, "bob", 1) == [b"", b""]
    assert await shown_checks(world, "alice", SENT) == ([b"", b""] if copies == "always" else [])
