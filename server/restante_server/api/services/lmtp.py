"""The end of an acceptance by LMTP: a verdict for each recipient (RFC 2033 4.2).

Each recipient is judged before the message is taken, by the size that it turned out to have. The accepted ones are then
promised as if RCPT had just accepted them, so that nothing fails after its verdict. The refused ones are kept with the
answer of the request: a repetition gets the same verdicts, although the first acceptance may have filled a quota.
"""

from __future__ import annotations

from collections.abc import Sequence

from restante import errors
from restante.v1.transport_pb2 import AcceptBegin, RecipientVerdict
from restante_server.api.engine.call import Call
from restante_server.api.services import recipients
from restante_server.transport.records import Envelope

# A reason's place stands for it in the kept answers of requests: append only.
REASONS = (
    errors.RecipientNotFound,
    errors.QuotaExceeded,
    errors.StoreFull,
    errors.RelayDenied,
    errors.InvalidAddress,
)
_PLACES = 1 << 16  # more than a message has recipients


async def refused_of(call: Call, envelope: Envelope, size_octets: int) -> tuple[int, ...]:
    """The recipients who cannot have a message of this size now, each as a number for reason and place."""
    paths = [recipient.forward_path for recipient in envelope.recipients]
    problems = await recipients.judge(call, paths, size_octets, envelope.reverse_path)
    return tuple(
        REASONS.index(type(problem)) * _PLACES + place for place, problem in enumerate(problems) if problem is not None
    )


def remaining(envelope: Envelope, refused: Sequence[int]) -> Envelope:
    """The envelope without the refused recipients."""
    places = {number % _PLACES for number in refused}
    return envelope._replace(recipients=[one for place, one in enumerate(envelope.recipients) if place not in places])


def verdicts(begin: AcceptBegin, refused: Sequence[int]) -> list[RecipientVerdict]:
    """The verdict for each recipient of an acceptance by LMTP; none for any other."""
    if not begin.lmtp:
        return []
    reasons = {number % _PLACES: REASONS[number // _PLACES] for number in refused}
    return [
        recipients.refused(reasons[place]()) if place in reasons else RecipientVerdict(accepted=True)
        for place in range(len(begin.recipients))
    ]
