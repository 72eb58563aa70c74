"""SMTP and POP3 gateways over a real core, which a test can kill and restart."""

from __future__ import annotations

import asyncio
import poplib
import ssl

from restante.link import CoreLink
from restante_gateways.net.authentication import AuthenticationPolicy
from restante_gateways.net.runtime import Port, Runtime, RuntimeSettings
from restante_gateways.pop3 import gateway as pop3
from restante_gateways.smtp import gateway as smtp
from restante_gateways.smtp.settings import Role, SessionSettings
from restante_process.tls import CertificateFiles
from tests.gateways.smtp.conftest import Gateway
from tests.harness.core_process import START_SECONDS, CoreProcess
from tests.harness.player import Endpoint

MAX_MESSAGE_OCTETS = 40 << 20
poplib._MAXLINE = 1 << 20  # type: ignore[attr-defined]  # the library gives up on longer lines, which mail has
RESTART_SECONDS = START_SECONDS + 5.0  # a core may start slowly on a busy machine
PEOPLE = ("alice", "bob", "carol")


class Platform:
    """SMTP and POP3 gateways over a core, in the test's event loop."""

    def __init__(self, core: CoreProcess, certificate: CertificateFiles) -> None:
        self.core = core
        self.tls = ssl.create_default_context(cafile=str(certificate.certificate))
        self._certificate = certificate
        self._running: list[tuple[Runtime, CoreLink, asyncio.Task[None]]] = []

    async def start(self) -> None:
        """Open the listeners."""
        for name in PEOPLE:
            await self.core.account(f"{name}@example.test", f"{name}-demo")
        sessions = SessionSettings(Role.MX, "mx.example.test", max_message_octets=MAX_MESSAGE_OCTETS)
        listeners = {
            "mx": smtp.SmtpListener(Port(), Role.MX),
            "submission": smtp.SmtpListener(Port(), Role.SUBMISSION),
            "submissions": smtp.SmtpListener(Port(tls="implicit"), Role.SUBMISSION),
        }
        settings = smtp.SmtpSettings(listeners, sessions, patience_seconds=RESTART_SECONDS)
        link = await self.core.link("smtp")
        runtime = self._runtime("smtp")
        self._keep(runtime, link, smtp.run(settings, link, runtime))
        self.gateway = Gateway.of(runtime, self.tls)
        link, maildrops = await self.core.link("pop3"), self._runtime("pop3")
        self._keep(maildrops, link, pop3.run(pop3.Pop3Settings({"pop3": Port()}), link, maildrops))
        while len(runtime.listeners) < 3 or not maildrops.listeners:
            await asyncio.sleep(0.01)
        self.pop3_port = maildrops.addresses()["pop3"][0].port

    def _runtime(self, name: str) -> Runtime:
        policy = AuthenticationPolicy.EXCEPT_LOOPBACK
        return Runtime(RuntimeSettings(name, certificates=(self._certificate,), authentication=policy, drain_seconds=2))

    def _keep(self, runtime: Runtime, link: CoreLink, serving: object) -> None:
        task = asyncio.ensure_future(serving)  # type: ignore[call-overload]
        self._running.append((runtime, link, task))

    async def stop(self) -> None:
        """End both gateways."""
        await self.gateway.close_clients()
        for runtime, link, task in self._running:
            runtime.draining.set()
            await task
            await link.close()

    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints for transcripts."""
        port = self.gateway.port
        return {
            "smtp": Endpoint("127.0.0.1", port("mx"), self.tls),
            "submission": Endpoint("127.0.0.1", port("submission"), self.tls),
            "submissions": Endpoint("127.0.0.1", port("submissions"), self.tls, implicit=True),
        }

    async def take_all(self, name: str) -> list[bytes]:
        """Retrieve and delete all messages of a maildrop, oldest first."""
        return await asyncio.to_thread(self._take_all, name)

    def _take_all(self, name: str) -> list[bytes]:
        client = poplib.POP3("127.0.0.1", self.pop3_port, timeout=30)
        client.user(f"{name}@example.test")
        client.pass_(f"{name}-demo")
        count = client.stat()[0]
        taken = [b"".join(line + b"\r\n" for line in client.retr(number)[1]) for number in range(1, count + 1)]
        for number in range(1, count + 1):
            client.dele(number)
        client.quit()
        return taken
