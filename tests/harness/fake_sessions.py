"""Logins and session tokens in memory, by the core's rules. All in-memory cores of tests use this module.

`tests/contract/test_fake_sessions.py` makes the same calls on the real core.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from restante import errors
from restante.v1.session_pb2 import AuthenticateRequest, AuthenticateResponse, RenewSessionResponse, Session


class FakeAccount(Protocol):
    """The part of an in-memory core's account that sessions need."""

    account_id: int
    password: str
    version: int  # of the credentials: a change raises it, and ends sessions with a lower version

    @property
    def address(self) -> str:
        """The full address."""


A = TypeVar("A", bound=FakeAccount)


@dataclass(frozen=True, slots=True)
class Issued(Generic[A]):
    """A token: its account, its credential version and its expiry."""

    account: A
    version: int
    until: float  # by the monotonic clock


class FakeSessions(Generic[A]):
    """The sessions of one core. A test may clear `tokens`, so that issued tokens become unknown."""

    def __init__(self, find: Callable[[str], A | None], token_seconds: float = 900.0) -> None:
        """`find` returns the account of a login name. A change of `token_seconds` affects tokens issued later."""
        self._find, self.token_seconds = find, token_seconds
        self.tokens: dict[bytes, Issued[A]] = {}
        self._numbers = itertools.count(1)

    def authenticate(self, request: AuthenticateRequest) -> AuthenticateResponse:
        """Authenticate by PLAIN, in one step. Raises AuthenticationFailed, MechanismNotSupported."""
        if request.mechanism != "PLAIN":
            raise errors.MechanismNotSupported(mechanism=request.mechanism)
        fields = request.response.split(b"\0")
        if len(fields) != 3:
            raise errors.AuthenticationFailed
        name, password = (field.decode("utf-8", "replace") for field in fields[1:])
        account = self._find(name)
        if account is None or account.password != password:
            raise errors.AuthenticationFailed
        return AuthenticateResponse(session=self.begin(account))

    def renew(self, token: bytes) -> RenewSessionResponse:
        """A fresh token of a valid session. Raises as `owner` does."""
        return RenewSessionResponse(session=self.begin(self.owner(token)))

    def owner(self, token: bytes) -> A:
        """The account of a session. Raises InvalidSession, SessionExpired, SessionRevoked."""
        issued = self.tokens.get(token)
        if issued is None:
            raise errors.InvalidSession
        if issued.until <= time.monotonic():
            raise errors.SessionExpired
        if issued.version < issued.account.version:
            raise errors.SessionRevoked
        return issued.account

    def begin(self, account: A) -> Session:
        """A new session of an authenticated account."""
        token = b"token %d" % next(self._numbers)
        self.tokens[token] = Issued(account, account.version, time.monotonic() + self.token_seconds)
        return Session(
            session_token=token,
            account_id=account.account_id,
            mailbox_id=account.account_id,
            credential_version=account.version,
            address=account.address,
            lifetime_milliseconds=int(self.token_seconds * 1_000),
        )
