"""Logins and session tokens in memory, by the core's rules: every core that tests make up judges tokens here.

`tests/contract/test_fake_sessions.py` plays the same calls on the real core.
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
    """An account of a core in memory, as far as its sessions concern it."""

    account_id: int
    password: str
    version: int  # of its credentials: a change raises it, and ends the sessions below

    @property
    def address(self) -> str:
        """Its address, in full."""


A = TypeVar("A", bound=FakeAccount)


@dataclass(frozen=True, slots=True)
class Issued(Generic[A]):
    """A token: whose, of which version, and until when it is good."""

    account: A
    version: int
    until: float  # of the monotonic clock


class FakeSessions(Generic[A]):
    """The sessions of one core. A test may clear `tokens`, as if they were another installation's."""

    def __init__(self, find: Callable[[str], A | None], token_seconds: float = 900.0) -> None:
        """`find` gives the account of a login name. `token_seconds` holds for the tokens issued from now on."""
        self._find, self.token_seconds = find, token_seconds
        self.tokens: dict[bytes, Issued[A]] = {}
        self._numbers = itertools.count(1)

    def authenticate(self, request: AuthenticateRequest) -> AuthenticateResponse:
        """One step of PLAIN, which is the whole exchange. Raises AuthenticationFailed, MechanismNotSupported."""
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
        """A fresh token of a session that is good. Raises as `owner`."""
        return RenewSessionResponse(session=self.begin(self.owner(token)))

    def owner(self, token: bytes) -> A:
        """Whose session it is. Raises InvalidSession, SessionExpired, SessionRevoked."""
        issued = self.tokens.get(token)
        if issued is None:
            raise errors.InvalidSession
        if issued.until <= time.monotonic():
            raise errors.SessionExpired
        if issued.version < issued.account.version:
            raise errors.SessionRevoked
        return issued.account

    def begin(self, account: A) -> Session:
        """A session of an account that has proven itself."""
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
