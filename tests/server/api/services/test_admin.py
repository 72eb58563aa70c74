"""AdminService: domains, accounts, aliases, statistics."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from restante.errors import (
    AccountNotFound,
    AddressExists,
    AliasNotFound,
    AuthenticationFailed,
    DomainExists,
    DomainNotEmpty,
    DomainNotFound,
    InvalidAddress,
    InvalidArgument,
    InvalidPageToken,
    InvalidSession,
    PermissionDenied,
    RecipientNotFound,
    RequestIdRequired,
    RequestIdReused,
    SessionRevoked,
    WeakPassword,
)
from restante.methods import Method
from restante.v1 import admin_pb2 as v1
from restante.v1 import methods
from restante.v1.checks_pb2 import FailedCheckPolicy
from restante.v1.session_pb2 import Scope
from restante_server.store.check import check
from tests.server.api.people import ADMIN, NATIVE, Bench, gateway


def new_id() -> bytes:
    return secrets.token_bytes(16)


async def admin(bench: Bench, method: Method[Any, Any], request: Any) -> Any:
    return await bench.run(method, request, ADMIN)


def account(address: str, **fields: Any) -> v1.CreateAccountRequest:
    fields.setdefault("password", "a good password")
    return v1.CreateAccountRequest(address=address, request_id=new_id(), **fields)


ADMINISTRATION: list[tuple[Method[Any, Any], Any]] = [
    (methods.CREATE_DOMAIN, v1.CreateDomainRequest(name="example.org", request_id=bytes(16))),
    (methods.LIST_DOMAINS, v1.ListDomainsRequest()),
    (methods.UPDATE_DOMAIN, v1.UpdateDomainRequest(name="example.test")),
    (methods.DELETE_DOMAIN, v1.DeleteDomainRequest(name="example.test")),
    (
        methods.CREATE_ACCOUNT,
        v1.CreateAccountRequest(address="d@example.test", password="long enough", request_id=bytes(16)),
    ),
    (methods.GET_ACCOUNT, v1.GetAccountRequest(address="bob@example.test")),
    (methods.LIST_ACCOUNTS, v1.ListAccountsRequest()),
    (methods.UPDATE_ACCOUNT, v1.UpdateAccountRequest(address="bob@example.test", administrator=True)),
    (methods.SET_PASSWORD, v1.SetPasswordRequest(address="alice@example.test", password="long enough")),
    (methods.DELETE_ACCOUNT, v1.DeleteAccountRequest(address="alice@example.test", request_id=new_id())),
    (
        methods.CREATE_ALIAS,
        v1.CreateAliasRequest(address="x@example.test", targets=["bob@example.test"], request_id=bytes(16)),
    ),
    (methods.LIST_ALIASES, v1.ListAliasesRequest()),
    (methods.DELETE_ALIAS, v1.DeleteAliasRequest(address="x@example.test")),
    (methods.GET_STATISTICS, v1.GetStatisticsRequest()),
]


async def test_nobody_but_an_administrator_administers(bench: Bench) -> None:
    bob = await bench.caller(await bench.login("bob@example.test", "bob-demo"))
    less = await bench.caller(await bench.login("alice@example.test", "alice-demo", scope=Scope.SCOPE_IMAP))
    for method, request in ADMINISTRATION:
        for caller in (bob, less, gateway("imap")[0], gateway("relay")[0]):
            with pytest.raises(PermissionDenied):
                await bench.run(method, request, caller)
        with pytest.raises(InvalidSession):
            await bench.run(method, request, NATIVE)


async def test_an_account_that_is_an_administrator_may(bench: Bench) -> None:
    alice = await bench.caller(await bench.login("alice@example.test", "alice-demo"))
    assert (await bench.run(methods.LIST_DOMAINS, v1.ListDomainsRequest(), alice)).domains[0].account_count == 3


async def test_domains(bench: Bench) -> None:
    request = v1.CreateDomainRequest(name="Bücher.example", request_id=new_id())
    made = (await admin(bench, methods.CREATE_DOMAIN, request)).domain
    assert (made.name, made.ascii_name) == ("Bücher.example", "xn--bcher-kva.example")
    assert (await admin(bench, methods.CREATE_DOMAIN, request)).domain == made  # the same request again
    again = v1.CreateDomainRequest(name="xn--BCHER-kva.example", request_id=new_id())
    with pytest.raises(DomainExists):
        await admin(bench, methods.CREATE_DOMAIN, again)
    for bad in ("", "a b", "[127.0.0.1]", "-x.example"):
        with pytest.raises(InvalidArgument):
            await admin(bench, methods.CREATE_DOMAIN, v1.CreateDomainRequest(name=bad, request_id=new_id()))
    with pytest.raises(DomainNotEmpty):
        await admin(bench, methods.DELETE_DOMAIN, v1.DeleteDomainRequest(name="example.test"))
    await admin(bench, methods.DELETE_DOMAIN, v1.DeleteDomainRequest(name="bücher.example"))
    with pytest.raises(DomainNotFound):
        await admin(bench, methods.DELETE_DOMAIN, v1.DeleteDomainRequest(name="bücher.example"))


async def test_a_domain_says_who_may_get_resent_mail(bench: Bench) -> None:
    policy = v1.ResendingPolicy
    same = await admin(bench, methods.UPDATE_DOMAIN, v1.UpdateDomainRequest(name="example.test"))
    assert same.domain.resending == policy.RESENDING_POLICY_WITHIN_DOMAIN
    for wanted in (policy.RESENDING_POLICY_ANYWHERE, policy.RESENDING_POLICY_NEVER):
        request = v1.UpdateDomainRequest(name="example.test", resending=wanted)
        assert (await admin(bench, methods.UPDATE_DOMAIN, request)).domain.resending == wanted
    with pytest.raises(InvalidArgument):
        await admin(bench, methods.UPDATE_DOMAIN, v1.UpdateDomainRequest(name="example.test", resending=9))  # type: ignore[arg-type]


async def test_a_domain_says_what_happens_to_mail_that_fails_a_check(bench: Bench) -> None:
    same = await admin(bench, methods.UPDATE_DOMAIN, v1.UpdateDomainRequest(name="example.test"))
    default = FailedCheckPolicy.FAILED_CHECK_POLICY_QUARANTINE
    assert (same.domain.failed_dmarc, same.domain.forged_sender) == (default, default)
    reject, nothing = FailedCheckPolicy.FAILED_CHECK_POLICY_REJECT, FailedCheckPolicy.FAILED_CHECK_POLICY_NONE
    request = v1.UpdateDomainRequest(name="example.test", failed_dmarc=reject)
    changed = (await admin(bench, methods.UPDATE_DOMAIN, request)).domain
    assert (changed.failed_dmarc, changed.forged_sender) == (reject, default)
    request = v1.UpdateDomainRequest(name="example.test", forged_sender=nothing)
    changed = (await admin(bench, methods.UPDATE_DOMAIN, request)).domain
    assert (changed.failed_dmarc, changed.forged_sender) == (reject, nothing)
    for field in ("failed_dmarc", "forged_sender"):
        for bad in (0, 9):
            request = v1.UpdateDomainRequest(name="example.test", **{field: bad})  # type: ignore[arg-type]
            with pytest.raises(InvalidArgument) as refused:
                await admin(bench, methods.UPDATE_DOMAIN, request)
            assert refused.value.metadata["field"] == field


async def test_a_policy_that_an_update_names_is_a_policy(bench: Bench) -> None:
    """Presence alone says that a setting changes, so UNSPECIFIED is a mistake of the client."""
    domain = v1.UpdateDomainRequest(name="example.test", resending=v1.ResendingPolicy.RESENDING_POLICY_UNSPECIFIED)
    with pytest.raises(InvalidArgument) as refused:
        await admin(bench, methods.UPDATE_DOMAIN, domain)
    assert refused.value.metadata["field"] == "resending"
    for policy in (v1.SentCopyPolicy.SENT_COPY_POLICY_UNSPECIFIED, 9):
        person = v1.UpdateAccountRequest(address="bob@example.test", sent_copy=policy)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument) as refused:
            await admin(bench, methods.UPDATE_ACCOUNT, person)
        assert refused.value.metadata["field"] == "sent_copy"
    new = account("dora@example.test", sent_copy=9)
    with pytest.raises(InvalidArgument):
        await admin(bench, methods.CREATE_ACCOUNT, new)


async def test_a_catch_all_is_somebody_here(bench: Bench) -> None:
    request = v1.UpdateDomainRequest(name="example.test", catch_all="Bob@example.test")
    assert (await admin(bench, methods.UPDATE_DOMAIN, request)).domain.catch_all == "bob@example.test"
    same = await admin(bench, methods.UPDATE_DOMAIN, v1.UpdateDomainRequest(name="example.test"))
    assert same.domain.catch_all == "bob@example.test"
    with pytest.raises(RecipientNotFound):
        await admin(
            bench, methods.UPDATE_DOMAIN, v1.UpdateDomainRequest(name="example.test", catch_all="x@example.test")
        )
    none = await admin(bench, methods.UPDATE_DOMAIN, v1.UpdateDomainRequest(name="example.test", catch_all=""))
    assert none.domain.catch_all == ""


async def test_a_created_account_can_log_in_and_is_created_once(bench: Bench) -> None:
    request = account("Dora@example.test", display_name="Dora", quota_octets=1_000_000)
    made = (await admin(bench, methods.CREATE_ACCOUNT, request)).account
    assert (made.address, made.enabled, made.quota_octets) == ("Dora@example.test", True, 1_000_000)
    assert made.sent_copy == v1.SENT_COPY_POLICY_API
    session = await bench.login("dora@example.test", "a good password")
    assert (session.account_id, session.mailbox_id) == (made.account_id, made.mailbox_id)
    assert (await admin(bench, methods.CREATE_ACCOUNT, request)).account == made
    with pytest.raises(AddressExists):
        await admin(bench, methods.CREATE_ACCOUNT, account("DORA@example.test"))
    other = v1.CreateAccountRequest()
    other.CopyFrom(request)
    other.address = "other@example.test"
    with pytest.raises(RequestIdReused):
        await admin(bench, methods.CREATE_ACCOUNT, other)
    assert await bench.core.db.read(check) == []


async def test_an_account_is_imported_with_its_hash(bench: Bench) -> None:
    request = account("dora@example.test")
    request.password_hash = await bench.core.directory.passwords.hash(_secret("from elsewhere"))
    with pytest.raises(InvalidArgument):  # both
        await admin(bench, methods.CREATE_ACCOUNT, request)
    request.password = ""
    await admin(bench, methods.CREATE_ACCOUNT, request)
    await bench.login("dora@example.test", "from elsewhere")


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (account("dora@example.net"), DomainNotFound),
        (account("no address"), InvalidAddress),
        (account("dora@example.test", password="short"), WeakPassword),
        (account("dora@example.test", password="dora@example.test"), WeakPassword),
        (account("dora@example.test", password=""), InvalidArgument),
        (account("dora@example.test", password="", password_hash="$1$x$y"), InvalidArgument),
        (account("dora@example.test", quota_octets=-1), InvalidArgument),
        (account("dora@example.test", display_name="a\nb"), InvalidArgument),
        (v1.CreateAccountRequest(address="dora@example.test", password="long enough"), RequestIdRequired),
    ],
)
async def test_accounts_that_cannot_be_made(
    bench: Bench, request_: v1.CreateAccountRequest, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await admin(bench, methods.CREATE_ACCOUNT, request_)
    with pytest.raises(AccountNotFound):
        await admin(bench, methods.GET_ACCOUNT, v1.GetAccountRequest(address="dora@example.test"))


async def test_updates_change_what_they_name(bench: Bench) -> None:
    before = (await admin(bench, methods.GET_ACCOUNT, v1.GetAccountRequest(address="bob@example.test"))).account
    edit = v1.UpdateAccountRequest(address="BOB@example.test", display_name="Robert", quota_octets=5)
    after = (await admin(bench, methods.UPDATE_ACCOUNT, edit)).account
    assert (after.display_name, after.quota_octets, after.enabled) == ("Robert", 5, True)
    assert (after.sent_copy, after.mailbox_id) == (before.sent_copy, before.mailbox_id)
    unlimited = v1.UpdateAccountRequest(address="bob@example.test", quota_octets=0)
    assert not (await admin(bench, methods.UPDATE_ACCOUNT, unlimited)).account.HasField("quota_octets")
    with pytest.raises(AccountNotFound):
        await admin(bench, methods.UPDATE_ACCOUNT, v1.UpdateAccountRequest(address="x@example.test"))


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (methods.UPDATE_ACCOUNT, v1.UpdateAccountRequest(address="bob@example.test", enabled=False)),
        (methods.SET_PASSWORD, v1.SetPasswordRequest(address="bob@example.test", password="another word")),
        (methods.DELETE_ACCOUNT, v1.DeleteAccountRequest(address="bob@example.test", request_id=new_id())),
    ],
)
async def test_what_ends_sessions_ends_them_at_once(bench: Bench, method: Method[Any, Any], request_: Any) -> None:
    session = await bench.login("bob@example.test", "bob-demo")
    await bench.caller(session)
    await admin(bench, method, request_)
    with pytest.raises(SessionRevoked):
        await bench.caller(session)
    told = bench.ended[-1]
    assert told.account_id == session.account_id and told.credential_version > session.credential_version
    with pytest.raises(AuthenticationFailed):
        await bench.login("bob@example.test", "bob-demo")


async def test_a_deleted_account_leaves_its_address_free_and_the_store_sound(bench: Bench) -> None:
    await admin(bench, methods.DELETE_ACCOUNT, v1.DeleteAccountRequest(address="bob@example.test", request_id=new_id()))
    with pytest.raises(AccountNotFound):
        await admin(
            bench, methods.DELETE_ACCOUNT, v1.DeleteAccountRequest(address="bob@example.test", request_id=new_id())
        )
    await admin(bench, methods.CREATE_ACCOUNT, account("bob@example.test"))
    assert await bench.core.db.read(check) == []


async def test_aliases(bench: Bench) -> None:
    targets = ["bob@example.test", "Bob@example.test", "dave@example.net"]
    request = v1.CreateAliasRequest(address="team@example.test", targets=targets, request_id=new_id())
    made = (await admin(bench, methods.CREATE_ALIAS, request)).created
    assert list(made.targets) == ["bob@example.test", "dave@example.net"]
    assert (await admin(bench, methods.CREATE_ALIAS, request)).created == made
    with pytest.raises(AddressExists):
        await admin(bench, methods.CREATE_ACCOUNT, account("team@example.test"))
    bad: list[tuple[str, list[str], type[Exception]]] = [
        ("bob@example.test", ["alice@example.test"], AddressExists),
        ("x@example.net", ["alice@example.test"], DomainNotFound),
        ("x@example.test", [], InvalidArgument),
        ("x@example.test", ["alice@example.test"] * 101, InvalidArgument),
        ("x@example.test", ["no address"], InvalidAddress),
    ]
    for address, to, error in bad:
        refused = v1.CreateAliasRequest(address=address, targets=to, request_id=new_id())
        with pytest.raises(error):
            await admin(bench, methods.CREATE_ALIAS, refused)
    await admin(bench, methods.DELETE_ALIAS, v1.DeleteAliasRequest(address="Team@example.test"))
    for gone in ("team@example.test", "no address"):
        with pytest.raises(AliasNotFound):
            await admin(bench, methods.DELETE_ALIAS, v1.DeleteAliasRequest(address=gone))


async def test_lists_are_paged_by_key_and_by_domain(bench: Bench) -> None:
    await admin(bench, methods.CREATE_DOMAIN, v1.CreateDomainRequest(name="example.org", request_id=new_id()))
    await admin(bench, methods.CREATE_ACCOUNT, account("aaron@example.org"))
    request, seen = v1.ListAccountsRequest(page_size=2), []
    while True:
        page = await admin(bench, methods.LIST_ACCOUNTS, request)
        seen += [found.address.partition("@")[0] for found in page.accounts]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == ["aaron", "alice", "bob", "carol"]
    of_one = await admin(bench, methods.LIST_ACCOUNTS, v1.ListAccountsRequest(domain="EXAMPLE.org"))
    assert [found.address for found in of_one.accounts] == ["aaron@example.org"]
    other = v1.ListAccountsRequest(domain="example.test", page_token=request.page_token)
    with pytest.raises(InvalidPageToken):  # of another list
        await admin(bench, methods.LIST_ACCOUNTS, other)
    names = (await admin(bench, methods.LIST_DOMAINS, v1.ListDomainsRequest(page_size=1))).domains
    assert [found.name for found in names] == ["example.org"]


async def test_statistics_count(bench: Bench) -> None:
    found = await admin(bench, methods.GET_STATISTICS, v1.GetStatisticsRequest())
    assert (found.domain_count, found.account_count, found.message_count) == (1, 3, 0)
    assert found.database == bench.core.db.dialect


def _secret(text: str) -> Any:
    from restante_server.directory.secret import Secret

    return Secret(text)
