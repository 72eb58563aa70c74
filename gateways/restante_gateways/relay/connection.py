"""One SMTP connection to another server: opportunistic TLS, one transaction after another (RFC 5321, RFC 3207)."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence

import aiosmtplib
from aiosmtplib import SMTPException, SMTPResponseException

from restante.v1.submission_pb2 import DsnReturn, EnvelopeOptions, NotifyCondition
from restante.v1.transport_pb2 import OutboundRecipient
from restante_gateways.relay.outcomes import NOT_8BIT, NOT_SMTPUTF8, Outcome, deferred, failed, from_reply
from restante_gateways.relay.routes import Hop

CONNECT_SECONDS = 30.0
COMMAND_SECONDS = 300.0  # RFC 5321 4.5.3.2
DATA_SECONDS = 600.0  # RFC 5321 4.5.3.2.6: after the final dot, a server may take that long
MAX_TRANSACTIONS = 100  # then a fresh connection
CONDITIONS = {
    NotifyCondition.NOTIFY_CONDITION_NEVER: "NEVER",
    NotifyCondition.NOTIFY_CONDITION_SUCCESS: "SUCCESS",
    NotifyCondition.NOTIFY_CONDITION_FAILURE: "FAILURE",
    NotifyCondition.NOTIFY_CONDITION_DELAY: "DELAY",
}
RETURNS = {DsnReturn.DSN_RETURN_FULL: "RET=FULL", DsnReturn.DSN_RETURN_HEADERS: "RET=HDRS"}


class Unreachable(Exception):
    """No transaction could begin here: another server may be tried. `outcome` is what to report if none is left."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.diagnostic)
        self.outcome = outcome


def tls_context() -> ssl.SSLContext:
    """Opportunistic TLS protects against listening only: any certificate is taken (RFC 7435)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Connection:
    """A connection that has said EHLO. `transact` hands over one message."""

    def __init__(self, client: aiosmtplib.SMTP, hop: Hop) -> None:
        self._client, self.hop = client, hop
        self.transactions = 0
        self.idle_since = time.monotonic()

    @classmethod
    async def open(cls, hop: Hop, own_name: str, context: ssl.SSLContext) -> Connection:
        """Connect, with TLS when the server offers it and it works, in the clear otherwise (RFC 3207 4.1).

        Raises Unreachable.
        """
        client = await cls._connect(hop, own_name)
        if client.supports_extension("STARTTLS"):
            try:
                await client.starttls(tls_context=context, server_hostname=hop.host, timeout=CONNECT_SECONDS)
                await client.ehlo(timeout=COMMAND_SECONDS)
            except (SMTPException, OSError, ssl.SSLError):
                client.close()
                client = await cls._connect(hop, own_name)
        return cls(client, hop)

    @staticmethod
    async def _connect(hop: Hop, own_name: str) -> aiosmtplib.SMTP:
        client = aiosmtplib.SMTP(
            hostname=hop.address, port=hop.port, local_hostname=own_name, start_tls=False, timeout=CONNECT_SECONDS
        )
        try:
            await client.connect()
            try:
                await client.ehlo(timeout=COMMAND_SECONDS)
            except aiosmtplib.SMTPHeloError as error:
                if error.code >= 500:
                    await client.helo(timeout=COMMAND_SECONDS)
                else:
                    raise
        except SMTPResponseException as error:
            client.close()
            raise Unreachable(from_reply(error.code, error.message, hop.host)) from None
        except (SMTPException, OSError) as error:
            client.close()
            raise Unreachable(deferred("4.4.1", f"{hop.host} [{hop.address}]: {error}")) from None
        return client

    @property
    def usable(self) -> bool:
        """Another transaction may be begun."""
        return self._client.is_connected and self.transactions < MAX_TRANSACTIONS

    async def close(self) -> None:
        """Say goodbye, if anybody listens."""
        try:
            await self._client.quit(timeout=5)
        except (SMTPException, OSError):
            self._client.close()

    async def transact(
        self,
        reverse_path: str,
        options: EnvelopeOptions,
        recipients: Sequence[OutboundRecipient],
        content: bytes,
    ) -> dict[int, Outcome]:
        """Hand over one message; returns the outcome of each recipient by id.

        Raises Unreachable when the server ends the connection before it has been told of any recipient.
        """
        self.transactions += 1
        problem = self._refusal(reverse_path, options, recipients)
        if problem is not None:
            return {item.recipient_id: problem for item in recipients}
        outcomes: dict[int, Outcome] = {}
        try:
            await self._command(b"MAIL", b"FROM:<" + reverse_path.encode() + b">", *self._mail(options, len(content)))
        except SMTPResponseException as error:
            await self._reset()
            if error.code == 421:
                raise Unreachable(from_reply(error.code, error.message, self.hop.host)) from None
            outcome = from_reply(error.code, error.message, self.hop.host)
            return {item.recipient_id: outcome for item in recipients}
        except (SMTPException, OSError) as error:
            raise Unreachable(deferred("4.4.2", f"{self.hop.host}: {error}")) from None
        try:
            accepted = []
            for item in recipients:
                try:
                    path = b"TO:<" + item.recipient.forward_path.encode() + b">"
                    await self._command(b"RCPT", path, *self._rcpt(item))
                    accepted.append(item)
                except SMTPResponseException as error:
                    outcomes[item.recipient_id] = from_reply(error.code, error.message, self.hop.host)
            if not accepted:
                await self._reset()
                return outcomes
            outcome = await self._data(content)
        except (SMTPException, OSError) as error:
            outcome = deferred("4.4.2", f"{self.hop.host}: {error}", self.hop.host)
        for item in recipients:
            outcomes.setdefault(item.recipient_id, outcome)
        self.idle_since = time.monotonic()
        return outcomes

    def _refusal(
        self, reverse_path: str, options: EnvelopeOptions, recipients: Sequence[OutboundRecipient]
    ) -> Outcome | None:
        """Why the message cannot be offered to this server at all (RFC 6531 3.2, RFC 6152 3)."""
        paths = (reverse_path, *(item.recipient.forward_path for item in recipients))
        international = options.smtputf8 or not all(path.isascii() for path in paths)
        if international and not self._client.supports_extension("SMTPUTF8"):
            return failed("5.6.7", NOT_SMTPUTF8, self.hop.host)
        if options.body_8bit and not self._client.supports_extension("8BITMIME"):
            return failed("5.6.3", NOT_8BIT, self.hop.host)
        return None

    def _mail(self, options: EnvelopeOptions, size: int) -> list[bytes]:
        offers = self._client.supports_extension
        words = []
        if offers("SIZE"):
            words.append(f"SIZE={size}")
        if offers("8BITMIME"):
            words.append("BODY=8BITMIME")
        if options.smtputf8:
            words.append("SMTPUTF8")
        if offers("DSN"):
            if options.dsn_return in RETURNS:
                words.append(RETURNS[options.dsn_return])
            if options.envelope_id:
                words.append(f"ENVID={options.envelope_id}")
        return [word.encode() for word in words]

    def _rcpt(self, item: OutboundRecipient) -> list[bytes]:
        if not self._client.supports_extension("DSN"):
            return []
        words = []
        if item.recipient.notify:
            words.append("NOTIFY=" + ",".join(CONDITIONS[condition] for condition in item.recipient.notify))
        if item.recipient.original_recipient:
            words.append(f"ORCPT={item.recipient.original_recipient}")
        return [word.encode() for word in words]

    async def _command(self, *words: bytes) -> None:
        response = await self._client.execute_command(*words, timeout=COMMAND_SECONDS)
        if not 200 <= response.code < 300:
            raise SMTPResponseException(response.code, response.message)

    async def _data(self, content: bytes) -> Outcome:
        passed_on = self._client.supports_extension("DSN")
        try:
            response = await self._client.data(content, timeout=DATA_SECONDS)
        except SMTPResponseException as error:
            await self._reset()
            return from_reply(error.code, error.message, self.hop.host)
        return from_reply(response.code, response.message, self.hop.host, dsn_passed_on=passed_on)

    async def _reset(self) -> None:
        try:
            await self._client.rset(timeout=COMMAND_SECONDS)
        except (SMTPException, OSError):
            self._client.close()
