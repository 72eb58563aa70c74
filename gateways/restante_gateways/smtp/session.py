"""One SMTP session: greeting, login, TLS and the commands without mail, beside those of a transaction."""

from __future__ import annotations

from restante import errors
from restante_gateways.smtp import auth, replies
from restante_gateways.smtp.command_loop import Ended
from restante_gateways.smtp.grammar import parse_hello
from restante_gateways.smtp.mail_commands import MailCommands
from restante_gateways.smtp.replies import Reply, refuse
from restante_gateways.smtp.settings import Role
from restante_gateways.smtp.state import no_argument
from restante_gateways.smtp.waiting import WaitingTime

COMMANDS = "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT"  # of every listener, for HELP
COMMAND_METHODS = tuple(f"smtp_{name}" for name in f"{COMMANDS} EXPN STARTTLS AUTH".split())


class SmtpSession(MailCommands):
    """The state and the commands of one connection; `serve` runs it."""

    commands = COMMANDS  # without those that depend on the connection's state

    def __dir__(self) -> tuple[str, ...]:
        """The names of the commands alone. aiosmtpd examines all that `dir` lists, four times for each session."""
        return COMMAND_METHODS

    async def smtp_EHLO(self, argument: bytes) -> Reply:
        """EHLO: set the client's name and list the current extensions. RFC 5321 4.1.1.1."""
        self.session.host_name, self.session.extended_smtp = parse_hello(argument), True
        await self._reset()
        offers = [
            self._settings.host_name,
            "PIPELINING",  # RFC 2920
            f"SIZE {self._settings.max_message_octets}",  # RFC 1870
            "8BITMIME",  # RFC 6152
            "SMTPUTF8",  # RFC 6531
            "ENHANCEDSTATUSCODES",  # RFC 2034
            "DSN",  # RFC 3461
            "CHUNKING",  # RFC 3030
            f"LIMITS RCPTMAX={self._settings.max_recipients}",  # RFC 9422 4
        ]
        if self._starttls_offered:
            offers.append("STARTTLS")
        if self._authentication_offered:
            offers.append(f"AUTH {' '.join(self._settings.mechanisms)}")
        return Reply(250, "", "\n".join(offers))

    async def smtp_HELO(self, argument: bytes) -> Reply:
        """HELO: set the client's name, without extensions. RFC 5321 4.1.1.1."""
        self.session.host_name, self.session.extended_smtp = parse_hello(argument), False
        await self._reset()
        return Reply(250, "", self._settings.host_name)

    async def smtp_NOOP(self, argument: bytes) -> Reply:
        """NOOP: reply OK to any argument. RFC 5321 4.1.1.9."""
        return replies.OK

    async def smtp_VRFY(self, argument: bytes) -> Reply:
        """VRFY: the same reply for all names, which reveals no recipients. RFC 5321 3.5.3 and 7.3."""
        if not argument:
            raise refuse(501, "5.5.4", "Syntax: VRFY string")
        return replies.CANNOT_VERIFY

    async def smtp_EXPN(self, argument: bytes) -> Reply:  # type: ignore[override]
        """EXPN: refuse, since it would reveal addresses. RFC 5321 7.3."""
        return replies.NOT_OFFERED

    async def smtp_HELP(self, argument: bytes) -> Reply:
        """HELP: list the commands of this listener. RFC 5321 4.1.1.8."""
        starttls = " STARTTLS" if self._starttls_offered else ""
        authentication = " AUTH" if self._authentication_offered else ""
        return Reply(214, "2.0.0", f"Commands: {self.commands}{starttls}{authentication}\nSee RFC 5321")

    async def smtp_QUIT(self, argument: bytes) -> Reply:
        """QUIT: end the session. RFC 5321 4.1.1.10."""
        no_argument(argument, "QUIT")
        self._commands.end(replies.CLOSING)
        return replies.CLOSING

    async def smtp_STARTTLS(self, argument: bytes) -> Reply | None:
        """STARTTLS: run a handshake, then reset the session. RFC 3207 4."""
        no_argument(argument, "STARTTLS")
        if self._tls:
            return Reply(503, "5.5.1", "TLS is active already")
        if not self._starttls_offered or self._certificates is None:
            return replies.NOT_OFFERED
        if self.envelope.mail is not None:
            return replies.OUT_OF_SEQUENCE
        self._channel.say(Reply(220, "2.0.0", "Ready to start TLS"))
        await self._channel.start_tls(self._certificates.context)
        self.session.host_name, self.session.extended_smtp = "", False
        self._forget_user()
        return None

    async def smtp_AUTH(self, argument: bytes) -> Reply:
        """AUTH: pass the client's exchange to the core, which verifies it. RFC 4954 4."""
        if self._settings.role is not Role.SUBMISSION:
            return replies.NOT_OFFERED
        if not self.session.host_name or not self.session.extended_smtp:
            return replies.NEED_HELLO
        if self.envelope.mail is not None or self._identity is not None:
            return replies.OUT_OF_SEQUENCE
        if not self._authentication_allowed:
            return replies.NEED_TLS_TO_AUTHENTICATE
        mechanism, initial = auth.parse(argument, self._settings.mechanisms)
        try:
            identity = await auth.exchange(self._channel, self._core, self._peer, mechanism, initial)
        except errors.RestanteError as error:
            return self._login_failed(error)
        self._identity = identity
        self._channel.waiting = WaitingTime(self._settings.idle_seconds)
        self._log.authenticated(identity.account)
        identity.watch(lambda: self._channel.connection.interrupt(Ended()))
        return replies.AUTHENTICATED

    def _login_failed(self, error: errors.RestanteError) -> Reply:
        """The reply to a failed login. Counts wrong credentials, but not failures of the core."""
        reply = auth.refusal(error)
        if reply.is_permanent:
            self._login_failures += 1
            if self._login_failures >= self._settings.max_login_attempts:
                self._commands.end(replies.TOO_MANY_ERRORS)
        return reply
