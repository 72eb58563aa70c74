"""Pipelined RCPT commands, which the core verifies in one call (RFC 5321 4.1.1.3, RFC 2920 3.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from restante.errors import RestanteError
from restante_gateways.smtp import replies
from restante_gateways.smtp.errors import failure_reply, reply_to
from restante_gateways.smtp.grammar import MailArguments, RcptArguments, parse_rcpt
from restante_gateways.smtp.replies import Refused, Reply
from restante_gateways.smtp.transaction import Transaction

RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")

Verify = Callable[[MailArguments, Sequence[RcptArguments]], Awaitable[list[RestanteError | None]]]
"""Returns the core's verdict on each recipient: None, or the error. Raises RestanteError."""


async def verify(
    arguments: Sequence[bytes], transaction: Transaction, ask: Verify, *, extended: bool, max_recipients: int
) -> list[Reply]:
    """The reply to each RCPT. Adds accepted recipients to the open `transaction`, and counts refused ones."""
    mail = transaction.mail
    assert mail is not None
    answers: list[Reply | RcptArguments] = []
    room = max_recipients - len(transaction.recipients)
    wanted: dict[RcptArguments, None] = {}
    for argument in arguments:
        try:
            recipient = parse_rcpt(argument, extended=extended, smtputf8=mail.smtputf8)
        except Refused as refused:
            answers.append(refused.reply)
            continue
        if recipient not in transaction.recipients and recipient not in wanted:
            if len(wanted) >= room:
                answers.append(replies.TOO_MANY_RECIPIENTS)
                continue
            wanted[recipient] = None
        elif len(transaction.answered) + len(answers) >= max_recipients:  # by LMTP, a repetition has its own answer
            answers.append(replies.TOO_MANY_RECIPIENTS)
            continue
        answers.append(recipient)
    refusals = await _refusals(ask, mail, list(wanted)) if wanted else {}
    transaction.recipients.update((recipient, None) for recipient in wanted if recipient not in refusals)
    if transaction.lmtp:
        transaction.answered += (
            answer for answer in answers if isinstance(answer, RcptArguments) and answer not in refusals
        )
    final = [refusals.get(answer, RECIPIENT_OK) if isinstance(answer, RcptArguments) else answer for answer in answers]
    transaction.refused_count += sum(reply.is_error for reply in final)
    return final


async def _refusals(ask: Verify, mail: MailArguments, wanted: list[RcptArguments]) -> dict[RcptArguments, Reply]:
    """The recipients that the core refuses, with the reply to each."""
    try:
        verdicts = await ask(mail, wanted)
    except Exception as error:  # noqa: BLE001 - an internal failure gets temporary replies
        return dict.fromkeys(wanted, failure_reply(error))
    return {recipient: reply_to(error) for recipient, error in zip(wanted, verdicts, strict=True) if error is not None}
