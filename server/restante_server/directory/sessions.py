"""Sessions in memory: a token opened before is checked in microseconds, and its end takes effect within seconds.

Use this module on the event loop only. A core reads the changes of other cores from the database every second or two
(`refresh`); it applies its own changes at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from restante.errors import InvalidSession, SessionExpired, SessionRevoked
from restante_server.db.engine import Database
from restante_server.directory import keys as sealing
from restante_server.directory import states, tokens
from restante_server.directory.keys import KeyRing, NotSealed
from restante_server.directory.settings import SessionSettings
from restante_server.directory.states import AccountState, Changes, Ended
from restante_server.directory.tokens import SECOND, Token


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A valid session."""

    token: Token
    state: AccountState


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The changes that one `refresh` found."""

    ended: tuple[Ended, ...]  # accounts whose sessions may have ended; repeated for a minute (OVERLAP_SECONDS)
    revoked: frozenset[int]  # sessions that other cores have logged off since the last refresh


@dataclass(frozen=True, slots=True)
class Issued:
    """A token for a client. Times are microseconds."""

    session_token: bytes
    session: OpenSession
    expires_at: int
    renewable_until: int


class Sessions:
    """Issues and opens tokens."""

    def __init__(self, db: Database, keys: KeyRing, settings: SessionSettings) -> None:
        self._db, self._keys, self._settings = db, keys, settings
        self._opened: dict[bytes, Token] = {}  # in order of arrival; the oldest is dropped first
        self._states: dict[int, AccountState] = {}
        self._generation: dict[int, int] = {}  # {account: number of `forget_account` calls}, for reads under way
        self._revoked: dict[int, int] = {}
        self._least: dict[int, int] = {}  # {account: lowest credential version of valid sessions}, latest changes last
        self._looked_at = 0
        self._may_look_for_keys = True  # only once between two refreshes

    # --- Opening ------------------------------------------------------------------------------------------------

    def known(self, session_token: bytes, now: int) -> OpenSession | None:
        """The session of a token, from memory alone; None when `open` has to read the database.

        Raises SessionExpired, SessionRevoked.
        """
        token = self._opened.get(session_token)
        state = self._states.get(token.account_id) if token is not None else None
        if token is None or state is None:
            return None
        self._check(token, state, now)
        return OpenSession(token, state)

    async def open(self, session_token: bytes, now: int) -> OpenSession:
        """The session of a token. Raises InvalidSession, SessionExpired, SessionRevoked."""
        token = self._opened.get(session_token) or await self._unseal(session_token)
        if token.expires_at <= now:
            self._opened.pop(session_token, None)
            raise SessionExpired
        state = self._states.get(token.account_id) or await self._fetch(token.account_id)
        if state is None:
            raise SessionRevoked
        self._check(token, state, now)
        self._remember(session_token, token)
        return OpenSession(token, state)

    def is_over(self, account_id: int, credential_version: int, session_id: int) -> bool:
        """Whether a session opened earlier has ended, as far as memory alone shows."""
        if session_id in self._revoked or credential_version < self._least.get(account_id, 0):
            return True
        state = self._states.get(account_id)
        return state is not None and (not state.enabled or credential_version < state.credential_version)

    async def _unseal(self, session_token: bytes) -> Token:
        # Another core may have made a new key in the last seconds. Invalid tokens must not cause a read each time.
        if not self._keys.knows(session_token) and self._may_look_for_keys:
            self._may_look_for_keys = False
            self._keys.replace(await self._db.read(sealing.load))
        try:
            return tokens.unseal(self._keys, session_token)
        except NotSealed as error:
            raise InvalidSession from error

    async def _fetch(self, account_id: int) -> AccountState | None:
        # A state that is read before a change and stored after it would hide the change until the next one.
        before = self._generation.get(account_id, 0)
        state = await self._db.read(states.fetch, account_id)
        if state is not None and self._generation.get(account_id, 0) == before:
            if len(self._states) >= self._settings.account_states:
                self._states.pop(next(iter(self._states)))
            self._states[account_id] = state
        return state

    def _check(self, token: Token, state: AccountState, now: int) -> None:
        if token.expires_at <= now:
            raise SessionExpired
        if not state.enabled or token.credential_version < state.credential_version:
            raise SessionRevoked
        if token.session_id in self._revoked:
            raise SessionRevoked

    def _remember(self, session_token: bytes, token: Token) -> None:
        if len(self._opened) >= self._settings.opened_tokens:
            self._opened.pop(next(iter(self._opened)))
        self._opened[session_token] = token

    # --- Issuing ------------------------------------------------------------------------------------------------

    def begin(self, state: AccountState, identity: str, scope: int, now: int) -> Issued:
        """Begin a session for an account whose password has just been verified."""
        return self._issue(state, identity, scope, tokens.new_session_id(), now, now)

    async def renew(self, session: OpenSession, now: int) -> Issued:
        """Issue a new token for a session, after reading its state from the database. Raises SessionExpired,
        SessionRevoked."""
        old = session.token
        if now >= old.authenticated_at + self._settings.renewable_seconds * SECOND:
            raise SessionExpired
        state, revoked = await self._db.read(
            lambda tx: (states.fetch(tx, old.account_id), states.is_revoked(tx, old.session_id))
        )
        if revoked or state is None:
            raise SessionRevoked
        self._check(old, state, now)
        return self._issue(state, old.identity, old.scope, old.session_id, old.authenticated_at, now)

    def _issue(
        self, state: AccountState, identity: str, scope: int, session_id: int, authenticated_at: int, now: int
    ) -> Issued:
        authenticated_at = authenticated_at // SECOND * SECOND  # a token holds whole seconds
        renewable_until = authenticated_at + self._settings.renewable_seconds * SECOND
        expires_at = min(now + self._settings.token_seconds * SECOND, renewable_until)
        token = Token(
            state.account_id,
            state.credential_version,
            session_id,
            identity,
            scope,
            authenticated_at,
            expires_at // SECOND * SECOND,
        )
        session_token = tokens.seal(self._keys, token)
        return Issued(session_token, OpenSession(token, state), token.expires_at, renewable_until)

    def times(self, token: Token) -> tuple[int, int]:
        """(expiry of a token, time until which its session can be renewed), in microseconds."""
        return token.expires_at, token.authenticated_at + self._settings.renewable_seconds * SECOND

    # --- Ending -------------------------------------------------------------------------------------------------

    def forget_account(self, account_id: int) -> None:
        """Drop the state of a changed account, so that its next call reads it. Call it after the commit."""
        self._states.pop(account_id, None)
        self._generation[account_id] = self._generation.get(account_id, 0) + 1
        if len(self._generation) > self._settings.account_states:
            self._generation.pop(next(iter(self._generation)))

    def forget_session(self, session_id: int, until: int) -> None:
        """Mark a session as logged off. Call it after the commit, with `until` of the LoggedOff event."""
        self._revoked[session_id] = until

    async def refresh(self) -> Refreshed:
        """Apply the changes of other cores, including new keys; call it every second or two."""
        since, lifetime = self._looked_at, self._settings.token_seconds
        changes, ring = await self._db.read(lambda tx: (states.look(tx, since, lifetime), sealing.load(tx)))
        revoked = frozenset(changes.revoked.keys() - self._revoked.keys())
        self._apply(changes)
        self._keys.replace(ring)
        self._may_look_for_keys = True
        return Refreshed(changes.ended, revoked)

    def _apply(self, changes: Changes) -> None:
        if changes.looked_at - self._looked_at > states.CHANGES_KEPT_SECONDS * SECOND // 2:
            self._states.clear()  # the last look is so long ago that change rows may have been deleted since
        for ended in changes.ended:
            self.forget_account(ended.account_id)
            self._least.pop(ended.account_id, None)
            self._least[ended.account_id] = ended.credential_version
        while len(self._least) > self._settings.account_states:
            self._least.pop(next(iter(self._least)))
        self._revoked.update(changes.revoked)
        expired = [session_id for session_id, until in self._revoked.items() if until < changes.looked_at]
        for session_id in expired:
            del self._revoked[session_id]
        self._looked_at = changes.looked_at
