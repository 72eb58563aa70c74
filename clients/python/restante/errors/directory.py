"""Reasons of accounts, domains, aliases, the address book and jobs."""

from __future__ import annotations

from grpc import StatusCode

from restante.errors.base import RestanteError


class AccountNotFound(RestanteError):
    reason = "ACCOUNT_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("account",)
    caused_by_client = True
    text = "The account does not exist."


class DomainNotFound(RestanteError):
    reason = "DOMAIN_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("domain",)
    caused_by_client = True
    text = "The domain is not a domain of this server."


class DomainExists(RestanteError):
    reason = "DOMAIN_EXISTS"
    code = StatusCode.ALREADY_EXISTS
    keys = ("domain",)
    caused_by_client = True
    text = "The domain already exists."


class DomainNotEmpty(RestanteError):
    reason = "DOMAIN_NOT_EMPTY"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("domain",)
    caused_by_client = True
    text = "The domain still has accounts or aliases; delete them first."


class DomainKeyNotFound(RestanteError):
    reason = "DOMAIN_KEY_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("domain", "selector")
    caused_by_client = True
    text = "The domain has no such key."


class DomainKeyExists(RestanteError):
    reason = "DOMAIN_KEY_EXISTS"
    code = StatusCode.ALREADY_EXISTS
    keys = ("domain", "selector")
    caused_by_client = True
    text = "The domain already has a key with this selector."


class DomainKeyState(RestanteError):
    reason = "DOMAIN_KEY_STATE"
    code = StatusCode.FAILED_PRECONDITION
    keys = ("domain", "selector", "problem")
    caused_by_client = True
    text = "The state of the key forbids this."


class AddressExists(RestanteError):
    reason = "ADDRESS_EXISTS"
    code = StatusCode.ALREADY_EXISTS
    keys = ("address",)
    caused_by_client = True
    text = "The address already belongs to an account or alias."


class AliasNotFound(RestanteError):
    reason = "ALIAS_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("address",)
    caused_by_client = True
    text = "The alias does not exist."


class EntryNotFound(RestanteError):
    reason = "ENTRY_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("entry",)
    caused_by_client = True
    text = "The directory has no such entry."


class JobNotFound(RestanteError):
    reason = "JOB_NOT_FOUND"
    code = StatusCode.NOT_FOUND
    keys = ("job_id",)
    caused_by_client = True
    text = "No such job, or it ended more than 30 days ago."
