"""The demo: a domain, three accounts, some mail, and the text about connecting to it."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from restante import errors
from restante.link import CoreLink
from restante.target import Target
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest
from restante.v1.folder_pb2 import GetFolderRequest
from restante.v1.message_pb2 import AppendMessageRequest
from restante.v1.session_pb2 import AuthenticateRequest, Scope
from restante.v1.signing_pb2 import CreateDomainKeysRequest
from restante_cli.connect import admin_link
from restante_process.config import Config

DOMAIN = "example.test"
PEOPLE = ("alice", "bob", "carol")
MAIL = (
    ("Welcome to Restante", "This mailbox is on your own machine. Reply, move and delete as you like.\n"),
    ("Lunch on Thursday?", "The place by the river has a table at half past twelve.\n"),
    ("Minutes of the meeting", "We agreed on the date. The list of open points is attached.\n"),
)


def password(name: str) -> str:
    """The password of a demo account."""
    return f"{name}-demo"


async def populate(settings: Config) -> None:
    """Create the missing ones of the domain, the accounts and their mail. Raises RestanteError."""
    link = await admin_link(settings)
    made = []
    try:
        with contextlib.suppress(errors.DomainExists):
            await link.execute(
                methods.CREATE_DOMAIN, CreateDomainRequest(name=DOMAIN, request_id=secrets.token_bytes(16))
            )
            await link.execute(
                methods.CREATE_DOMAIN_KEYS,
                CreateDomainKeysRequest(domain=DOMAIN, request_id=secrets.token_bytes(16)),
            )
        for name in PEOPLE:
            request = CreateAccountRequest(
                address=f"{name}@{DOMAIN}",
                display_name=name.capitalize(),
                password=password(name),
                administrator=name == PEOPLE[0],
                request_id=secrets.token_bytes(16),
            )
            with contextlib.suppress(errors.AddressExists):
                await link.execute(methods.CREATE_ACCOUNT, request)
                made.append(name)
    finally:
        await link.close()
    if not made:
        return
    roots = (settings.directory / "ca.pem").read_bytes()
    native = await CoreLink.connect(Target(f"localhost:{settings.core.api_port}", root_certificates=roots))
    try:
        for name in made:
            await _fill(native, name, PEOPLE[(PEOPLE.index(name) + 1) % len(PEOPLE)])
    finally:
        await native.close()


async def _fill(link: CoreLink, name: str, sender: str) -> None:
    plain = f"\0{name}@{DOMAIN}\0{password(name)}".encode()
    request = AuthenticateRequest(mechanism="PLAIN", response=plain, scope=Scope.SCOPE_API)
    token = (await link.execute(methods.AUTHENTICATE, request)).session.session_token
    inbox = (await link.execute(methods.GET_FOLDER, GetFolderRequest(path=["INBOX"]), session=token)).folder
    for age, (subject, text) in enumerate(MAIL):
        append = AppendMessageRequest(
            folder_id=inbox.folder_id,
            content=_message(name, sender, age, subject, text),
            request_id=secrets.token_bytes(16),
        )
        await link.execute(methods.APPEND_MESSAGE, append, session=token)


def _message(name: str, sender: str, age: int, subject: str, text: str) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = f"{sender.capitalize()} <{sender}@{DOMAIN}>"
    message["To"] = f"{name.capitalize()} <{name}@{DOMAIN}>"
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.now(UTC) - timedelta(hours=3 * age))
    message["Message-ID"] = f"<{secrets.token_hex(12)}@{DOMAIN}>"
    message.set_content(text)
    if "attached" in text:
        message.add_attachment("1. Venue\n2. Budget\n", filename="open-points.txt")
    return message.as_bytes()


def how_to_connect(settings: Config) -> str:
    """The text that the start of the demo prints."""
    imap, pop3, smtp = settings.imap.listeners, settings.pop3.listeners, settings.smtp.listeners
    sending = (
        "is relayed to other servers" if settings.relay.send else "waits in the queue (--send lets the relay send it)"
    )
    return f"""
Restante is running.  Ctrl-C ends it.

  people       {", ".join(f"{name}@{DOMAIN}" for name in PEOPLE)}; password NAME-demo
  IMAP         localhost:{imap["imap"].port} (STARTTLS), localhost:{imap["imaps"].port} (TLS)
  POP3         localhost:{pop3["pop3"].port} (STARTTLS), localhost:{pop3["pop3s"].port} (TLS)
  submission   localhost:{smtp["submission"].port} (STARTTLS), localhost:{smtp["submissions"].port} (TLS)
  incoming     localhost:{smtp["mx"].port} (SMTP from other servers)
  API          localhost:{settings.core.api_port} (gRPC over TLS)
  health       http://127.0.0.1:{settings.health.up}/readyz, /metrics
  trust        {settings.directory / "ca.pem"}

Mail for other domains {sending}.
"""
