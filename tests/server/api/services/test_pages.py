"""Pages of lists: they end before their limit, and together they have every entry once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, update

from restante.errors import InvalidPageToken
from restante.methods import Method
from restante.v1 import admin_pb2, folder_pb2, message_pb2, methods, signing_pb2, submission_pb2
from restante_mail.authentication.tls_report import PolicySessions, TlsReport, report_json
from restante_mail.authentication.tls_result import TlsPolicy
from restante_mail.feedback import tls_json
from restante_mail.feedback.aggregate import AggregateReport, PublishedPolicy, Row
from restante_mail.feedback.failure import FailureReport
from restante_server.api.engine.call import MAX_LONE_RESULT_OCTETS
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.results import MAX_RESULT_OCTETS
from restante_server.api.services import pages
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive, failure_reports, tls_received
from restante_server.transport.feedback.aggregate_reports import new_report
from restante_server.transport.greylisting import overview
from restante_server.transport.greylisting import rows as greylisted
from restante_server.transport.greylisting.policy import GreylistSettings
from restante_server.transport.greylisting.triplet import Triplet
from restante_server.transport.outbound import failed_addresses, holds
from restante_server.transport.tls import sessions
from restante_server.upkeep.jobs import records
from tests.server.api.served import DOMAIN, Served, operation, request_id, served

together = pytest.mark.asyncio(loop_scope="module")


# --- Filling ------------------------------------------------------------------------------------------------------


def _page(sizes: list[int], page_size: int, token: str, limit: int) -> folder_pb2.ListSubscriptionsResponse:
    """A page of a list of one path for each size, as a handler makes it."""
    request = folder_pb2.ListSubscriptionsRequest(page_size=page_size, page_token=token)
    page = pages.Page.asked("sizes", request, limit)
    (start,) = page.key
    skip = pages.number(start) if start else 0
    found = list(enumerate(sizes))[skip : skip + page.most]
    answer = folder_pb2.ListSubscriptionsResponse()
    return page.fill(
        answer,
        answer.subscriptions,
        found,
        lambda at: folder_pb2.FolderPath(path=[f"{at[0]} " + "x" * at[1]]),
        lambda at: (str(at[0] + 1),),
    )


@given(st.lists(st.integers(0, 5_000), max_size=40), st.integers(1, 12), st.integers(0, 20_000))
def test_pages_end_before_their_limit_and_have_every_entry_once(sizes: list[int], page_size: int, limit: int) -> None:
    token, found = "", list[str]()
    while True:
        page = _page(sizes, page_size, token, limit)
        count = len(page.subscriptions)
        assert count <= page_size
        assert count == 1 or page.ByteSize() <= limit or not sizes
        found += [entry.path[0].split()[0] for entry in page.subscriptions]
        token = page.next_page_token
        if not token:
            break
        assert count, "a page before the last has an entry"
    assert found == [str(number) for number in range(len(sizes))]


def test_a_page_of_long_texts_begins_behind_the_last_one_or_repeats_some() -> None:
    long = "x" * 1_000
    texts = sorted(["a", "b", long + "1", long + "2", long + "3", "z"])
    for at, text in enumerate(texts):
        prefix, digest = pages.text_key(text)
        assert len(prefix + digest) < 400
        assert pages.behind_text(texts, prefix, digest) == at + 1
    without = [text for text in texts if text not in ("b", long + "2")]
    assert pages.behind_text(without, *pages.text_key("b")) == 1
    assert pages.behind_text(without, *pages.text_key(long + "2")) == 1, "no text is skipped"
    assert pages.behind_text(texts, "", "") == 0
    with pytest.raises(InvalidPageToken):
        pages.behind_text(texts, "no base64", "1")


def test_a_page_is_no_shorter_than_its_limit_asks_for() -> None:
    assert len(_page([100] * 50, 40, "", 2 << 20).subscriptions) == 40
    full = _page([100] * 50, 50, "", 3_000)
    assert len(full.subscriptions) == (3_000 - pages.TOKEN_OCTETS) // (_page([100], 1, "", 0).ByteSize() + 4)


# --- Every list of the contract -------------------------------------------------------------------------------------

LISTS = [method for method in methods.ALL if "page_size" in method.request.DESCRIPTOR.fields_by_name]
"""Not AcquireMaildrop, whose pages have a fixed number of small rows."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def core(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A core on which every list has at least three entries, but that of mailboxes."""
    async with served(Path(tmp_path_factory.mktemp("pages"))) as made:
        token = (await made.session("bob")).session_token
        for number in range(3):
            await made.call(
                "AdminService/CreateDomain",
                admin_pb2.CreateDomainRequest(name=f"d{number}.example", request_id=request_id()),
                identity="admin",
            )
            alias = admin_pb2.CreateAliasRequest(
                address=f"team{number}@{DOMAIN}", targets=[f"bob@{DOMAIN}"], request_id=request_id()
            )
            await made.call("AdminService/CreateAlias", alias, identity="admin")
            subscription = folder_pb2.SetSubscriptionRequest(path=[f"Folder {number}"], subscribed=True)
            await made.call("FolderService/SetSubscription", subscription, token=token)
            letter = f"From: bob@{DOMAIN}\r\nSubject: {number}\r\n\r\nHello\r\n".encode()
            submission = submission_pb2.SubmitMessageRequest(
                content=letter,
                recipients=[submission_pb2.EnvelopeRecipient(forward_path=f"x{number}@example.org")],
                request_id=request_id(),
            )
            await made.call("SubmissionService/SubmitMessage", submission, token=token)
            append = message_pb2.AppendMessageRequest(folder_id=1, content=letter, request_id=request_id())
            added = await made.call("MessageService/AppendMessage", append, token=token)
            gone = message_pb2.DeleteMessagesRequest(mode=message_pb2.DELETE_MODE_SOFT)
            gone.messages.ids.message_ids.append(added.message_id)
            await made.call("MessageService/DeleteMessages", gone, token=token)
            keys = signing_pb2.CreateDomainKeysRequest(domain=f"d{number}.example", request_id=request_id())
            keys.keys.add(algorithm=signing_pb2.SIGNING_ALGORITHM_ED25519)
            await made.call("AdminService/CreateDomainKeys", keys, identity="admin")
        await made.core.db.write(Write(_start_jobs))
        await made.core.db.write(Write(_insert_queue_facts))
        await made.core.db.write(Write(_keep_reports))
        yield made


def _start_jobs(tx: Connection) -> None:
    """Start three jobs of another core, and insert findings of the first."""
    elsewhere = records.NewJob(records.JobKind.BACKUP_STORE, records.Actor(records.ADMIN, None), place="another core")
    job, *_ = [records.start(tx, elsewhere) for _ in range(3)]
    tx.execute(update(schema.job).where(schema.job.c.job_id == job.job_id).values(finding_count=3))
    rows = [{"job_id": job.job_id, "number": number, "problem": f"finding {number}"} for number in (1, 2, 3)]
    tx.execute(insert(schema.job_finding), rows)


def _insert_queue_facts(tx: Connection) -> None:
    """Three standing holds, failed addresses, counts of TLS sessions, and rows of greylisting."""
    now = time.time_ns() // 1_000
    domains = [f"d{number}.example.org" for number in range(3)]
    holds.add(tx, holds.Kind.DESTINATION, domains, "admin", now)
    failures = [failed_addresses.Failure(f"x@{name}", "5.1.1", "no such user", now) for name in domains]
    failed_addresses.note(tx, failures)
    for number in range(3):
        triplet = Triplet("192.0.2.0/24", f"x@d{number}.example.org", f"alice@{DOMAIN}")
        greylisted.meet(tx, [triplet], GreylistSettings(), now)
        overview.allow(tx, f"192.0.2.{number}", now)
    sessions.add(tx, now // 86_400_000_000, [(sessions.Kind(name, 1, (), ()), 1) for name in domains], [])


def _keep_reports(tx: Connection) -> None:
    """Three DMARC reports with three rows each, three of failures, and then three TLS reports with three rows each."""
    rows = tuple((Row(f"192.0.2.{number}", "none", True, True, DOMAIN), 1) for number in range(3))
    for number in range(3):
        report = AggregateReport("Example", "a@example.net", str(number), 1, 2, PublishedPolicy(DOMAIN, "none"), rows)
        archive.keep(tx, archive.Direction.RECEIVED, new_report(report, "a@example.net"), number)
        failure = failure_reports.new_report(FailureReport(DOMAIN), "Example", "a@example.net", str(number))
        archive.keep(tx, archive.Direction.RECEIVED, failure, number)
    policies = tuple(PolicySessions(TlsPolicy(DOMAIN), number + 1, ()) for number in range(3))
    for number in range(3):
        written = TlsReport("Example", "a@example.net", str(number), datetime(2026, 1, 1, tzinfo=UTC), policies)
        octets = report_json(written)
        archive.keep(tx, archive.Direction.RECEIVED, tls_received.new_report(tls_json.read(octets), octets), number)


def _entries(answer: Any) -> list[Any]:
    """The entries of a page: its one repeated field, or the ids of its rows."""
    if isinstance(answer, message_pb2.QueryMessagesResponse):
        return list(answer.rows.message_ids)
    (entries,) = (value for field, value in answer.ListFields() if field.is_repeated)
    return list(entries)


async def _walk(core: Served, method: Method[Any, Any], limit: int) -> list[list[Any]]:
    """The entries of each page of a list, for bob or for the administrator."""
    server, caller = core.process.server, Caller(identity="admin")
    if method.service not in ("AdminService", "JobService"):
        token = (await core.session("bob")).session_token
        caller = await core.core.authenticator.session(token, Caller())
    request = method.request(page_size=1_000)
    if method == methods.LIST_JOB_FINDINGS:
        request.job_id = 1
    if method in (methods.LIST_DMARC_REPORT_ROWS, methods.LIST_TLS_REPORT_ROWS):
        request.report_id = 1 if method == methods.LIST_DMARC_REPORT_ROWS else 7
    if method == methods.QUERY_MESSAGES:
        request.columns.append(message_pb2.MESSAGE_COLUMN_SUMMARY)
    found = []
    while True:
        deadline = time.monotonic() + 30
        answer: Any = await server.dispatcher.run(server.registry.unary[method.field], caller, request, deadline, limit)
        found.append(_entries(answer))
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


@together
@pytest.mark.parametrize("method", LISTS, ids=lambda method: method.name)
async def test_every_list_ends_its_pages_before_the_limit(core: Served, method: Method[Any, Any]) -> None:
    (whole,) = await _walk(core, method, MAX_LONE_RESULT_OCTETS)
    assert len(whole) >= 3 or method == methods.LIST_MAILBOXES
    # One entry alone passes the first limit. A row of QueryMessages must fit.
    cut = await _walk(core, method, 1 if method != methods.QUERY_MESSAGES else pages.TOKEN_OCTETS + 100)
    assert [entry for page in cut for entry in page] == whole
    assert all(page for page in cut)
    assert len(cut) == len(whole)


@together
async def test_a_page_is_cut_for_a_batch_and_whole_alone(core: Served) -> None:
    token = (await core.session("carol")).session_token
    names = [f"{number} " + "n" * 240 for number in range(150)]
    made = [
        operation(
            "FolderService/CreateFolder",
            folder_pb2.CreateFolderRequest(path=[name], request_id=request_id()),
            token=token,
            operation_id=number,
        )
        for number, name in enumerate(names, 1)
    ]
    for some in (made[:50], made[50:100], made[100:]):
        assert not any(result.HasField("status") for result in await core.operate(*some))
    request = folder_pb2.ListFoldersRequest(page_size=1_000)
    whole = await core.call("FolderService/ListFolders", request, token=token)
    assert whole.next_page_token == "" and whole.ByteSize() > MAX_RESULT_OCTETS
    found: list[folder_pb2.Folder] = []
    while True:
        (result,) = await core.operate(operation("FolderService/ListFolders", request, token=token))
        page = result.list_folders
        assert MAX_RESULT_OCTETS // 2 < page.ByteSize() <= MAX_RESULT_OCTETS or not page.next_page_token
        found += page.folders
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == list(whole.folders)
