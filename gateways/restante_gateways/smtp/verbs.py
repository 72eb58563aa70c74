"""The commands of SMTP, one function each, in one table. RFC 5321 4.1.1, RFC 3207, RFC 4954."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restante_gateways.smtp import replies
from restante_gateways.smtp.auth import authenticate
from restante_gateways.smtp.errors import reply_to
from restante_gateways.smtp.grammar import RcptArguments, parse_hello, parse_mail, parse_rcpt
from restante_gateways.smtp.receive import receive_data
from restante_gateways.smtp.replies import Refused, Reply, refuse
from restante_gateways.smtp.settings import Role

if TYPE_CHECKING:
    from restante_gateways.smtp.session import SmtpSession

Run = Callable[["SmtpSession", bytes], Awaitable[Reply | None]]  # None: all has been said
RunTogether = Callable[["SmtpSession", list[bytes]], Awaitable[list[Reply]]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One command. With `run_together`, all that a client has pipelined are run at once, for one call to the core."""

    name: str
    run: Run
    brings_no_mail: bool = False
    run_together: RunTogether | None = None


async def ehlo(session: SmtpSession, argument: bytes) -> Reply:
    """EHLO: names the client and lists what is offered now. RFC 5321 4.1.1.1."""
    session.hello_name, session.extended = parse_hello(argument), True
    session.reset()
    offers = [
        session.settings.host_name,
        "PIPELINING",  # RFC 2920
        f"SIZE {session.settings.max_message_octets}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "SMTPUTF8",  # RFC 6531
        "ENHANCEDSTATUSCODES",  # RFC 2034
        "DSN",  # RFC 3461
    ]
    if session.starttls_offered:
        offers.append("STARTTLS")
    if session.authentication_offered:
        offers.append(f"AUTH {' '.join(session.settings.mechanisms)}")
    return Reply(250, "", "\n".join(offers))


async def helo(session: SmtpSession, argument: bytes) -> Reply:
    """HELO: names the client, without extensions. RFC 5321 4.1.1.1."""
    session.hello_name, session.extended = parse_hello(argument), False
    session.reset()
    return Reply(250, "", session.settings.host_name)


async def mail(session: SmtpSession, argument: bytes) -> Reply:
    """MAIL: opens a transaction. RFC 5321 4.1.1.2."""
    if not session.hello_name:
        return replies.NEED_HELLO
    if session.settings.role is Role.SUBMISSION and session.identity is None:
        return replies.NEED_AUTHENTICATION if session.authentication_allowed else replies.NEED_TLS
    if session.transaction is not None:
        return replies.NESTED_MAIL
    arguments = parse_mail(argument, extended=session.extended, authentication=session.authentication_offered)
    if arguments.size_octets is not None and arguments.size_octets > session.settings.max_message_octets:
        return replies.MESSAGE_TOO_BIG  # RFC 1870 6.1
    session.begin(arguments)
    return Reply(250, "2.1.0", "Sender OK")


async def rcpt_together(session: SmtpSession, arguments: list[bytes]) -> list[Reply]:
    """RCPT, as many as wait: names recipients, each verified by the core before it is taken. RFC 5321 4.1.1.3."""
    transaction = session.transaction
    if transaction is None:
        return [replies.NEED_MAIL if session.hello_name else replies.NEED_HELLO] * len(arguments)
    answers: list[Reply | RcptArguments] = []
    room = session.settings.max_recipients - len(transaction.recipients)
    wanted: dict[RcptArguments, None] = {}
    for argument in arguments:
        try:
            recipient = parse_rcpt(argument, extended=session.extended, smtputf8=transaction.mail.smtputf8)
        except Refused as refused:
            answers.append(refused.reply)
            continue
        if recipient not in transaction.recipients and recipient not in wanted:
            if len(wanted) >= room:
                answers.append(replies.TOO_MANY_RECIPIENTS)
                continue
            wanted[recipient] = None
        answers.append(recipient)
    refusals = await _verify(session, list(wanted)) if wanted else {}
    transaction.recipients.update((recipient, None) for recipient in wanted if recipient not in refusals)
    final = [
        refusals.get(answer, Reply(250, "2.1.5", "Recipient OK")) if isinstance(answer, RcptArguments) else answer
        for answer in answers
    ]
    transaction.refused_count += sum(reply.is_error for reply in final)
    return final


async def _verify(session: SmtpSession, recipients: list[RcptArguments]) -> dict[RcptArguments, Reply]:
    """Those the core does not take, with the reply for each."""
    assert session.transaction is not None
    try:
        verdicts = await session.core.verify(session.peer, session.identity, session.transaction.mail, recipients)
    except Exception as error:  # noqa: BLE001 - answered for each, and never as a bounce
        return dict.fromkeys(recipients, session.reply_to(error))
    return {
        recipient: reply_to(error) for recipient, error in zip(recipients, verdicts, strict=True) if error is not None
    }


async def rcpt(session: SmtpSession, argument: bytes) -> Reply:
    """RCPT alone."""
    return (await rcpt_together(session, [argument]))[0]


async def rset(session: SmtpSession, argument: bytes) -> Reply:
    """RSET: drops the transaction. RFC 5321 4.1.1.5."""
    _no_argument(argument, "RSET")
    session.reset()
    return replies.OK


async def noop(session: SmtpSession, argument: bytes) -> Reply:
    """NOOP: says OK, whatever its argument. RFC 5321 4.1.1.9."""
    return replies.OK


async def vrfy(session: SmtpSession, argument: bytes) -> Reply:
    """VRFY: one answer for all, found without a look, so that nobody's existence shows. RFC 5321 3.5.3 and 7.3."""
    if not argument:
        raise refuse(501, "5.5.4", "Syntax: VRFY string")
    return replies.CANNOT_VERIFY


async def expn(session: SmtpSession, argument: bytes) -> Reply:
    """EXPN: not for strangers. RFC 5321 7.3."""
    return replies.NOT_OFFERED


async def help_(session: SmtpSession, argument: bytes) -> Reply:
    """HELP: the commands of this listener. RFC 5321 4.1.1.8."""
    names = [verb.name for verb in VERBS.values() if verb.name not in {"EXPN", *_not_here(session)}]
    return Reply(214, "2.0.0", f"Commands: {' '.join(names)}\nRFC 5321 has the rest")


def _not_here(session: SmtpSession) -> set[str]:
    missing = set() if session.authentication_offered else {"AUTH"}
    return missing if session.starttls_offered else missing | {"STARTTLS"}


async def quit_(session: SmtpSession, argument: bytes) -> Reply:
    """QUIT: ends the session. RFC 5321 4.1.1.10."""
    _no_argument(argument, "QUIT")
    session.end(replies.CLOSING)
    return replies.CLOSING


async def starttls(session: SmtpSession, argument: bytes) -> Reply | None:
    """STARTTLS: a handshake, then all from the beginning. RFC 3207 4."""
    _no_argument(argument, "STARTTLS")
    if session.tls:
        return Reply(503, "5.5.1", "The connection is encrypted already")
    if not session.starttls_offered:
        return replies.NOT_OFFERED
    if session.transaction is not None:
        return replies.OUT_OF_SEQUENCE
    session.say(Reply(220, "2.0.0", "Ready to start TLS"))
    await session.start_tls()
    return None


def _no_argument(argument: bytes, verb: str) -> None:
    if argument:
        raise refuse(501, "5.5.4", f"Syntax: {verb}")


VERBS: dict[bytes, Verb] = {
    verb.name.encode("ascii"): verb
    for verb in (
        Verb("EHLO", ehlo, brings_no_mail=True),
        Verb("HELO", helo, brings_no_mail=True),
        Verb("MAIL", mail, brings_no_mail=True),
        Verb("RCPT", rcpt, run_together=rcpt_together),
        Verb("DATA", receive_data),
        Verb("RSET", rset, brings_no_mail=True),
        Verb("NOOP", noop, brings_no_mail=True),
        Verb("VRFY", vrfy, brings_no_mail=True),
        Verb("EXPN", expn, brings_no_mail=True),
        Verb("HELP", help_, brings_no_mail=True),
        Verb("QUIT", quit_),
        Verb("STARTTLS", starttls),
        Verb("AUTH", authenticate),
    )
}
