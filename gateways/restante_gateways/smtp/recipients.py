"""Pipelined RCPT commands, which the core verifies in one call (RFC 5321 4.1.1.3, RFC 2920 3.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from restante_gateways.smtp import replies
from restante_gateways.smtp.core import ContentRefused, FailedBefore, Verdict
from restante_gateways.smtp.errors import failure_reply, reply_to
from restante_gateways.smtp.grammar import MailArguments, RcptArguments, parse_rcpt
from restante_gateways.smtp.replies import Refused, Reply
from restante_gateways.smtp.transaction import Transaction

RECIPIENT_OK = Reply(250, "2.1.5", "Recipient OK")

MAX_WARNING_CHARACTERS = 200  # of the other server's reply

Verify = Callable[[MailArguments, Sequence[RcptArguments]], Awaitable[list[Verdict]]]
"""Returns the core's verdict on each recipient. Raises RestanteError."""


async def verify(
    arguments: Sequence[bytes], transaction: Transaction, ask: Verify, *, extended: bool, max_recipients: int
) -> list[Reply]:
    """The reply to each RCPT. Adds accepted recipients to the open `transaction`, and counts refused ones.

    A refusal of the content for one recipient is kept as that of the transaction.
    """
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
    said = await _replies(ask, transaction, mail, list(wanted)) if wanted else {}
    transaction.recipients.update((each, None) for each in wanted if each not in said or not said[each].is_error)
    final = [said.get(answer, RECIPIENT_OK) if isinstance(answer, RcptArguments) else answer for answer in answers]
    if transaction.lmtp:
        pairs = zip(answers, final, strict=True)
        transaction.answered += (
            answer for answer, reply in pairs if isinstance(answer, RcptArguments) and not reply.is_error
        )
    transaction.refused_count += sum(reply.is_error for reply in final)
    return final


async def _replies(
    ask: Verify, transaction: Transaction, mail: MailArguments, wanted: list[RcptArguments]
) -> dict[RcptArguments, Reply]:
    """The replies to recipients about whom the core says more than yes."""
    try:
        verdicts = await ask(mail, wanted)
    except Exception as error:  # noqa: BLE001 - an internal failure gets temporary replies
        return dict.fromkeys(wanted, failure_reply(error))
    said: dict[RcptArguments, Reply] = {}
    for recipient, verdict in zip(wanted, verdicts, strict=True):
        if isinstance(verdict, FailedBefore):
            said[recipient] = _warning(verdict)
        elif isinstance(verdict, ContentRefused):
            transaction.content_refusal = reply_to(verdict.error)
        elif verdict is not None:
            said[recipient] = reply_to(verdict)
    return said


def _warning(failed: FailedBefore) -> Reply:
    """The reply to an accepted recipient to whom earlier mail has failed. Some mail programs show or log it."""
    why = " ".join(failed.diagnostic.split())[:MAX_WARNING_CHARACTERS]
    return Reply(250, "2.1.5", f"Recipient OK, but mail to this address failed on {failed.at:%Y-%m-%d}: {why}")
