"""AdminService: domains, accounts, aliases and statistics. Queue, trace and the RPCs that start jobs are elsewhere."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.errors import InvalidArgument
from restante.v1 import admin_pb2 as v1
from restante.v1 import methods
from restante.v1.checks_pb2 import FailedCheckPolicy
from restante_server.accounts import lifecycle
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import pages
from restante_server.api.services.violations import collected
from restante_server.db.operation import Write
from restante_server.directory import accounts, addresses, aliases, credentials, domains
from restante_server.directory.check_rules import OnFailure
from restante_server.directory.secret import Secret
from restante_server.upkeep import figures

handlers = Handlers()

ACCOUNT_ROWS = 20  # an account with its mailbox and folders


# --- Domains ------------------------------------------------------------------------------------------------------


@handlers.write(methods.CREATE_DOMAIN, rule=administrators)
def create_domain(tx: Connection, call: Call, request: v1.CreateDomainRequest) -> v1.CreateDomainResponse:
    return v1.CreateDomainResponse(domain=_domain(domains.create(tx, call.now, request.name)))


@handlers.read(methods.LIST_DOMAINS, rule=administrators)
def list_domains(tx: Connection, call: Call, request: v1.ListDomainsRequest) -> v1.ListDomainsResponse:
    page = pages.Page.asked("domains", request, call.result_octets)
    (after,) = page.key
    found = domains.listing(tx, after, page.most)
    answer = v1.ListDomainsResponse()
    return page.fill(answer, answer.domains, found, _domain, lambda last: (last.ascii_name,))


@handlers.write(methods.UPDATE_DOMAIN, rule=administrators)
def update_domain(tx: Connection, call: Call, request: v1.UpdateDomainRequest) -> v1.UpdateDomainResponse:
    found = domains.get(tx, request.name)
    if request.HasField("catch_all"):
        found = domains.set_catch_all(tx, request.name, request.catch_all)
    if request.HasField("resending"):
        found = domains.set_resending(tx, request.name, _resending(request.resending))
    if request.HasField("failed_dmarc"):
        found = domains.set_rules(tx, request.name, failed_dmarc=_on_failure(request.failed_dmarc, "failed_dmarc"))
    if request.HasField("forged_sender"):
        found = domains.set_rules(tx, request.name, forged_sender=_on_failure(request.forged_sender, "forged_sender"))
    if request.HasField("greylisting"):
        found = domains.set_rules(tx, request.name, greylisting=request.greylisting)
    return v1.UpdateDomainResponse(domain=_domain(found))


@handlers.write(methods.DELETE_DOMAIN, rule=administrators)
def delete_domain(tx: Connection, call: Call, request: v1.DeleteDomainRequest) -> v1.DeleteDomainResponse:
    domains.remove(tx, request.name)
    return v1.DeleteDomainResponse()


# --- Accounts -----------------------------------------------------------------------------------------------------


@handlers.direct(methods.CREATE_ACCOUNT, rule=administrators)
async def create_account(call: Call, request: v1.CreateAccountRequest) -> v1.CreateAccountResponse:
    """Hash the password on a thread, then write."""
    directory, password = call.core.directory, Secret(request.password)
    quota_octets = request.quota_octets if request.HasField("quota_octets") else None
    with collected() as bad:
        address = request.address
        with bad.noting("address"):
            address = str(addresses.parse(request.address))
        with bad.noting("display_name"):
            accounts.require_display_name(request.display_name)
        with bad.noting("quota_octets"):
            lifecycle.require_quota(quota_octets)
        one = bool(request.password) != bool(request.password_hash)
        bad.require(one, "password", "exactly one of password and password_hash must be given")
        if request.password:
            with bad.noting("password"):
                credentials.check_strength(password, *credentials.names_of(address, request.display_name))
        if request.password_hash:
            with bad.noting("password_hash"):
                await directory.passwords.check_imported(request.password_hash)
    verifier = request.password_hash or await directory.passwords.hash(password)
    new = accounts.NewAccount(
        address=request.address,
        verifier=verifier,
        display_name=request.display_name,
        sent_copy=_sent_copy(request.sent_copy or v1.SentCopyPolicy.SENT_COPY_POLICY_API),
        administrator=request.administrator,
    )
    return await call.write(
        request,
        lambda tx: v1.CreateAccountResponse(account=_account(lifecycle.create(tx, call.now, new, quota_octets))),
        claims=(),
        rows=ACCOUNT_ROWS,
    )


@handlers.read(methods.GET_ACCOUNT, rule=administrators)
def get_account(tx: Connection, call: Call, request: v1.GetAccountRequest) -> v1.GetAccountResponse:
    return v1.GetAccountResponse(account=_account(accounts.get(tx, request.address)))


@handlers.read(methods.LIST_ACCOUNTS, rule=administrators)
def list_accounts(tx: Connection, call: Call, request: v1.ListAccountsRequest) -> v1.ListAccountsResponse:
    page = pages.Page.asked(f"accounts {request.domain}", request, call.result_octets)
    (after,) = page.key
    found = accounts.listing(tx, request.domain, after, page.most)
    answer = v1.ListAccountsResponse()
    return page.fill(answer, answer.accounts, found, _account, lambda last: (last.address_key,))


@handlers.direct(methods.UPDATE_ACCOUNT, rule=administrators)
async def update_account(call: Call, request: v1.UpdateAccountRequest) -> v1.UpdateAccountResponse:
    """Change settings. Disabling the account, or ending its administrator right, ends its sessions at once."""
    quota_octets = request.quota_octets if request.HasField("quota_octets") else None
    sent_copy: int | None = None
    with collected() as bad:
        if request.HasField("sent_copy"):
            with bad.noting("sent_copy"):
                sent_copy = _sent_copy(request.sent_copy)
        with bad.noting("display_name"):
            accounts.require_display_name(request.display_name)
        with bad.noting("quota_octets"):
            lifecycle.require_quota(quota_octets)
    edit = accounts.Edit(
        display_name=request.display_name if request.HasField("display_name") else None,
        enabled=request.enabled if request.HasField("enabled") else None,
        administrator=request.administrator if request.HasField("administrator") else None,
        sent_copy=sent_copy,
    )
    found = await call.core.db.write(
        Write(
            lambda tx: lifecycle.change(tx, request.address, edit, quota_octets),
            rows=3,
        )
    )
    return v1.UpdateAccountResponse(account=_account(found))


@handlers.direct(methods.SET_PASSWORD, rule=administrators)
async def set_password(call: Call, request: v1.SetPasswordRequest) -> v1.SetPasswordResponse:
    """Hash the password on a thread, then write. The account's sessions end."""
    directory, password = call.core.directory, Secret(request.password)
    found = await call.core.db.read(accounts.get, request.address)
    credentials.check_strength(password, *credentials.names_of(found.address, found.display_name))
    verifier = await directory.passwords.hash(password)
    await call.core.db.write(
        Write(
            lambda tx: accounts.set_password(tx, found.account_id, verifier),
            rows=3,
        )
    )
    return v1.SetPasswordResponse()


# --- Aliases ------------------------------------------------------------------------------------------------------


@handlers.write(methods.CREATE_ALIAS, rule=administrators)
def create_alias(tx: Connection, call: Call, request: v1.CreateAliasRequest) -> v1.CreateAliasResponse:
    with collected() as bad:
        with bad.noting("targets"):
            aliases.require_count(request.targets)
        for field, address in (("address", request.address), *(("targets", target) for target in request.targets)):
            with bad.noting(field):
                addresses.parse(address)
    return v1.CreateAliasResponse(created=_alias(aliases.create(tx, call.now, request.address, request.targets)))


@handlers.read(methods.LIST_ALIASES, rule=administrators)
def list_aliases(tx: Connection, call: Call, request: v1.ListAliasesRequest) -> v1.ListAliasesResponse:
    page = pages.Page.asked(f"aliases {request.domain}", request, call.result_octets)
    (after,) = page.key
    found = aliases.listing(tx, request.domain, after, page.most)
    answer = v1.ListAliasesResponse()
    return page.fill(answer, answer.aliases, found, _alias, lambda last: (last.address_key,))


@handlers.write(methods.DELETE_ALIAS, rule=administrators)
def delete_alias(tx: Connection, call: Call, request: v1.DeleteAliasRequest) -> v1.DeleteAliasResponse:
    aliases.remove(tx, request.address)
    return v1.DeleteAliasResponse()


# --- Statistics ---------------------------------------------------------------------------------------------------


@handlers.read(methods.GET_STATISTICS, rule=administrators, slow=True)
def get_statistics(tx: Connection, call: Call, request: v1.GetStatisticsRequest) -> v1.GetStatisticsResponse:
    """See AdminService.GetStatistics."""
    found = figures.statistics(tx)
    return v1.GetStatisticsResponse(
        domain_count=found.domains,
        account_count=found.accounts,
        message_count=found.messages,
        size_octets=found.mail_octets,
        content_count=found.contents,
        content_octets=found.content_octets,
        queued_recipient_count=found.queued_recipients,
        database=tx.dialect.name,
    )


def _resending(given: int) -> domains.Resending:
    try:
        return domains.Resending(given)
    except ValueError:
        raise InvalidArgument(field="resending", problem="must be a known value") from None


def _on_failure(given: int, field: str) -> OnFailure:
    try:
        return OnFailure(given)
    except ValueError:
        raise InvalidArgument(field=field, problem="must be a known value other than UNSPECIFIED") from None


def _sent_copy(given: int) -> int:
    if given not in v1.SentCopyPolicy.values() or given == v1.SentCopyPolicy.SENT_COPY_POLICY_UNSPECIFIED:
        raise InvalidArgument(field="sent_copy", problem="must be a known value other than UNSPECIFIED")
    return given


def _domain(found: domains.Domain) -> v1.Domain:
    return v1.Domain(
        name=found.name,
        ascii_name=found.ascii_name,
        catch_all=found.catch_all,
        account_count=found.account_count,
        alias_count=found.alias_count,
        resending=v1.ResendingPolicy.ValueType(found.resending),
        failed_dmarc=FailedCheckPolicy.ValueType(found.rules.failed_dmarc),
        forged_sender=FailedCheckPolicy.ValueType(found.rules.forged_sender),
        greylisting=found.rules.greylisting,
    )


def _account(found: accounts.Account) -> v1.Account:
    described = v1.Account(
        account_id=found.account_id,
        address=found.address,
        display_name=found.display_name,
        enabled=found.enabled,
        administrator=found.administrator,
        sent_copy=v1.SentCopyPolicy.ValueType(found.sent_copy),
        mailbox_id=found.mailbox_id,
        quota_octets=found.quota_octets,
        used_octets=found.used_octets,
        message_count=found.message_count,
    )
    described.created_at.FromMicroseconds(found.created_at)
    return described


def _alias(found: aliases.Alias) -> v1.Alias:
    return v1.Alias(address=found.address, targets=found.targets)
