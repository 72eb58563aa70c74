"""A handler's write as an operation of the pipeline: it runs once for each request_id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from sqlalchemy import Connection

from restante.errors import RequestIdRequired
from restante.v1 import methods
from restante_server.directory.rights import Claim
from restante_server.store import requests

Response = TypeVar("Response", bound=Message)

REQUEST_ID_OCTETS = 16
DAY = 24 * 3600 * 1_000_000  # microseconds
RESPONSES: dict[str, type[Any]] = {known.request.DESCRIPTOR.name: known.response for known in methods.ALL}
KEPT = {"SubmitMessageRequest": 7 * DAY}  # microseconds that a request id is remembered, if not one day
SECRETS = {"CreateAccountRequest": ("password", "password_hash")}  # a digest in the store would allow guessing them


@cache
def has_request_id(kind: Descriptor) -> bool:
    """Whether requests of this type have an id."""
    return "request_id" in kind.fields_by_name


def request_id(request: Message) -> bytes:
    """The request's id, or b"" when its type has none.

    Raises RequestIdRequired when the type has one and it is not 16 octets.
    """
    if not has_request_id(request.DESCRIPTOR):
        return b""
    value: bytes = getattr(request, "request_id")  # noqa: B009 - a field that only some messages have
    if len(value) != REQUEST_ID_OCTETS:
        raise RequestIdRequired
    return value


def fingerprint(request: Message, references: Sequence[tuple[str, str, str]] = ()) -> bytes:
    """A SHA-256 digest of the whole request but for SECRETS, and of its references if it is not filled yet.

    A reference is the operation that it names, as a field of Operation, with the paths in its response and in the
    request. Its number and its request do not count: a repetition may number the operations anew.
    """
    secrets = SECRETS.get(request.DESCRIPTOR.name)
    if secrets is not None:
        request, whole = type(request)(), request
        request.CopyFrom(whole)
        for name in secrets:
            request.ClearField(name)
    digest = hashlib.sha256(request.SerializeToString(deterministic=True))
    if references:
        digest = hashlib.sha256(digest.digest())  # no octets of a request can pass for references
        for reference in references:
            digest.update("\0".join(reference).encode() + b"\0\0")  # paths of field names have no NUL
    return digest.digest()


def once_only(request: Message, actor: str, mailbox_id: int, now: int, sent: bytes = b"") -> requests.Request:
    """The key, fingerprint and expiry of a request with an id, by an actor, for a mailbox (0: for none).

    `sent` is the fingerprint of the request as its client sent it, if references have filled it since. Raises
    RequestIdRequired.
    """
    method = request.DESCRIPTOR.name
    key = requests.Key(mailbox_id, actor, request_id(request))
    return requests.Request(key, method, sent or fingerprint(request), now + KEPT.get(method, DAY))


def once_of(request: Message, actor: str, claims: tuple[Claim, ...], now: int, sent: bytes = b"") -> requests.Request:
    """The same for a request with these claims: the mailbox of the first is the scope of the id."""
    return once_only(request, actor, claims[0].mailbox_id if claims else 0, now, sent)


def known_answer(tx: Connection, once: requests.Request, claims: tuple[Claim, ...]) -> Any:
    """The response that is kept for a request id; None if the id is new.

    The rights are decided here: a caller that has lost them gets none. Raises RequestIdReused, and as rights.decide.
    """
    kept = requests.find(tx, once)
    if kept is None:
        return None
    for claim in claims:
        claim.at(0).place(tx)
    return RESPONSES[once.method].FromString(kept)


@dataclass(eq=False, slots=True)
class HandlerWrite(Generic[Response]):
    """One write of one call. See db.operation.Operation. Nobody changes it; `frozen` would double its cost."""

    actor: str  # the caller's name in request ids
    now: int  # when the call arrived, in microseconds since 1970-01-01 UTC
    request: Message
    function: Callable[[Connection], Response]
    claims: tuple[Claim, ...]  # on the mailboxes that it may write; the first is the scope of the request id
    rows: int = 1
    octets: int = 0
    contents: frozenset[int] = frozenset()
    sent: bytes = b""  # see `once_only`

    @property
    def mailboxes(self) -> frozenset[int]:
        """See db.operation.Operation."""
        return frozenset({claim.mailbox_id for claim in self.claims})

    def run(self, tx: Connection) -> Response:
        """Run `function`, which decides the rights, and return its response, or the one remembered for the request id.

        For a remembered response the rights are decided here: a caller that has lost them gets none.
        """
        if not request_id(self.request):
            return self.function(tx)
        once = once_of(self.request, self.actor, self.claims, self.now, self.sent)
        answer: Response | None = known_answer(tx, once, self.claims)
        if answer is not None:
            return answer
        response = self.function(tx)
        requests.keep(tx, [(once, response.SerializeToString())], is_locked=once.key.mailbox_id != 0)
        return response
