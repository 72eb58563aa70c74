"""The end of an acceptance by LMTP: a verdict for each recipient (RFC 2033 4.2).

Each recipient is judged before the message is taken, by the size that it turned out to have and by its checks. The
accepted ones are then promised as if RCPT had just accepted them, so that nothing fails after its verdict. The refused
ones are kept with the answer of the request: a repetition gets the same verdicts, although the first acceptance may
have filled a quota.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from restante import errors
from restante.errors import RestanteError
from restante.v1.transport_pb2 import AcceptBegin, RecipientVerdict
from restante_server.api.engine.call import Call
from restante_server.api.services import recipients
from restante_server.transport.enqueue import Taken
from restante_server.transport.records import Envelope

Refusals = Mapping[int, RestanteError]
"""The reason for which a recipient is refused, by its place in the envelope."""

# A reason's place stands for it in the kept answers of requests: append only.
REASONS = (
    errors.RecipientNotFound,
    errors.QuotaExceeded,
    errors.StoreFull,
    errors.RelayDenied,
    errors.InvalidAddress,
    errors.MessageRefused,
)
_PLACES = 1 << 16  # more than a message has recipients


async def refusals_of(call: Call, envelope: Envelope, size_octets: int) -> Refusals:
    """The recipients who cannot have a message of this size now."""
    paths = [recipient.forward_path for recipient in envelope.recipients]
    problems = await recipients.judge(call, paths, size_octets, envelope.reverse_path)
    return {place: problem for place, problem in enumerate(problems) if problem is not None}


def remaining(envelope: Envelope, refused: Collection[int]) -> Envelope:
    """The envelope without the recipients in these places."""
    if not refused:
        return envelope
    return envelope._replace(recipients=[one for place, one in enumerate(envelope.recipients) if place not in refused])


def joined(envelope: Envelope, earlier: Refusals, later: Refusals) -> Refusals:
    """All refusals by their places in the envelope. Those of `later` are in `remaining(envelope, earlier)`."""
    places = [place for place in range(len(envelope.recipients)) if place not in earlier]
    return {**earlier, **{places[place]: problem for place, problem in later.items()}}


def numbers(refusals: Refusals) -> tuple[int, ...]:
    """The refusals as they are kept with the answer of a request: each as a number for its reason and place."""
    return tuple(REASONS.index(type(problem)) * _PLACES + place for place, problem in refusals.items())


def verdicts(begin: AcceptBegin, taken: Taken, refusals: Refusals) -> list[RecipientVerdict]:
    """The verdict for each recipient of an acceptance by LMTP; none for any other.

    The answer to a repetition names the reasons of the first one, and the details of now where the reason is the same.
    """
    if not begin.lmtp:
        return []
    reasons = {number % _PLACES: REASONS[number // _PLACES] for number in taken.refused}
    made = []
    for place in range(len(begin.recipients)):
        reason, now = reasons.get(place), refusals.get(place)
        if reason is None:
            made.append(RecipientVerdict(accepted=True))
        else:
            made.append(recipients.refused(now if now is not None and type(now) is reason else reason()))
    return made
