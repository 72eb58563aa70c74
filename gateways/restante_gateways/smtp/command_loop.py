"""The command loop of a session: it finds and runs commands, sends replies, logs, and enforces limits."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from restante_gateways.net.bounds import ConnectionLost, Draining, Interruption, TimedOut, TlsFailed
from restante_gateways.net.logging import SessionLog
from restante_gateways.net.metrics import GatewayMetrics
from restante_gateways.smtp import replies
from restante_gateways.smtp.channel import Channel
from restante_gateways.smtp.errors import failure_reply
from restante_gateways.smtp.lines import BadLine
from restante_gateways.smtp.replies import Refused, Reply, SessionOver
from restante_gateways.smtp.settings import Role, SessionSettings

# RFC 9110 9.3. A web page can make a browser send a form to this port; no line of it may run as a command.
HTTP_METHODS = frozenset(b"GET POST HEAD PUT DELETE CONNECT OPTIONS TRACE PATCH".split())
# Commands without mail, whose number in a row is limited.
IDLE_COMMANDS = frozenset(b"EHLO HELO LHLO MAIL RSET NOOP VRFY EXPN HELP".split())
# Commands that judge the length of their lines themselves: a chunk follows the line of BDAT, however long.
UNBOUNDED = frozenset(b"AUTH BDAT".split())
BAD_LINES = {
    BadLine.TOO_LONG: replies.LINE_TOO_LONG,
    BadLine.BARE_CR: replies.BAD_LINE_END,
    BadLine.BARE_LF: replies.BAD_LINE_END,
    BadLine.ENDLESS: replies.LINE_TOO_LONG,
}
# Text after a bare LF may be injected by an attacker. An endless line has no end after which to continue.
FATAL_LINES = frozenset({BadLine.BARE_LF, BadLine.ENDLESS})

Run = Callable[[bytes], Awaitable[Reply | list[Reply] | None]]
"""Runs one command with its argument, stripped of spaces. Returns None if it has sent the reply already."""


class Ended(Interruption):
    """The core has ended the user's session."""


class CommandLoop:
    """Runs the commands of one session in order. `find` returns the command of a name in capitals, or None."""

    def __init__(
        self,
        channel: Channel,
        find: Callable[[str], Run | None],
        settings: SessionSettings,
        log: SessionLog,
        metrics: GatewayMetrics,
    ) -> None:
        self._channel, self._find, self._settings = channel, find, settings
        self._log, self._metrics = log, metrics
        self._errors = self._idle_commands = 0
        self._over = False
        self._last_word: Reply | None = None

    async def run(self) -> None:
        """Greet the client and run its commands until the session ends.

        Raises TlsFailed, ConnectionLost, Interruption.
        """
        try:
            protocol = "LMTP" if self._settings.role is Role.LMTP else "ESMTP"
            self._channel.say(Reply(220, "", f"{self._settings.host_name} {protocol} Restante"))
            while not self._over:
                self._channel.connection.raise_interruption()
                await self._one_command()
        except SessionOver as over:
            self.end(over.reply)
        except TimedOut:
            self.end(replies.TIMED_OUT)
        except Draining:
            self.end(replies.SHUTTING_DOWN)
        except Ended:
            self.end(replies.SESSION_ENDED)
        if self._last_word is not None:
            self._channel.say(self._last_word)

    def end(self, last_word: Reply | None) -> None:
        """End the session after the current command; `last_word` is the final reply, None for no reply."""
        if not self._over:
            self._over, self._last_word = True, last_word

    def mail_accepted(self) -> None:
        """Reset the counters of errors and idle commands after an accepted message."""
        self._errors = self._idle_commands = 0

    def count_idle(self) -> None:
        """Count a command without mail, and end the session after too many in a row."""
        self._idle_commands += 1
        if self._idle_commands > self._settings.max_idle_commands:
            self.end(replies.TOO_MANY_COMMANDS)

    async def _one_command(self) -> None:
        line = await self._channel.next_line()
        started = time.perf_counter()
        if isinstance(line, BadLine):
            self._finish("?", BAD_LINES[line], started)
            if line in FATAL_LINES:
                raise SessionOver(None)
            return
        word, _, argument = line.partition(b" ")
        word = word.upper()
        if word in HTTP_METHODS:
            self._finish("?", replies.NOT_HTTP, started)
            raise SessionOver(None)
        name = word.decode("ascii") if word.isalpha() else ""
        run = self._find(name)
        if run is None:
            self._finish("?", replies.UNKNOWN_COMMAND, started)
        elif len(line) > self._settings.max_command_octets and word not in UNBOUNDED:
            self._finish(name, replies.LINE_TOO_LONG, started)
        else:
            for reply in await self._replies(run, argument.strip(b" ")):
                self._finish(name, reply, started)
            if word in IDLE_COMMANDS:
                self.count_idle()

    async def _replies(self, run: Run, argument: bytes) -> Sequence[Reply | None]:
        try:
            answer = await run(argument)
        except Refused as refused:
            return (refused.reply,)
        except (SessionOver, Interruption, ConnectionLost, TlsFailed):
            raise
        except Exception as error:  # noqa: BLE001 - the client gets a temporary reply to every internal failure
            return (failure_reply(error),)
        return answer if isinstance(answer, list) else (answer,)

    def _finish(self, verb: str, reply: Reply | None, started: float) -> None:
        """Send the reply (None: sent already), write the log line, and end the session after too many errors."""
        if reply is replies.SESSION_ENDED:
            self.end(reply)
        if reply is not None and reply is not self._last_word:  # `run` sends the final reply itself
            self._channel.say(reply)
        seconds = time.perf_counter() - started
        outcome = str(reply.code) if reply is not None else "220"
        self._log.finished(verb, outcome, seconds)
        self._metrics.command(verb, outcome, seconds)
        if reply is not None and reply.is_permanent:
            self._errors += 1
            if self._errors > self._settings.max_errors:
                self.end(replies.TOO_MANY_ERRORS)
