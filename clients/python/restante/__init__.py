"""Restante's client library: the client, its values and its errors.

    from restante import Client, query

    async with Client.connect("localhost:2051", root_certificates=pem, user=address, password=secret) as me:
        async for message in me.messages.query("INBOX", query.unread()):
            print(message.summary.subject)

`SyncClient` has the same names for programs without an event loop. `restante.query` has the conditions on messages,
`restante.errors` a class for each reason of a failure, and `restante.v1` is the generated contract.

Each name is loaded at its first use: the server and the gateways import `restante.errors` without the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from restante.changes import FolderEvent, MailboxEvent
    from restante.client import Client
    from restante.drafts import OutgoingFile
    from restante.errors import RestanteError
    from restante.messages import OpenedMessage
    from restante.parts import Part
    from restante.rows import Message
    from restante.sync_client import SyncClient
    from restante.target import Target
    from restante.unreachable import ServerUnreachable
    from restante.v1.folder_pb2 import Folder
    from restante.v1.mailbox_pb2 import Mailbox
    from restante.v1.search_pb2 import Restriction
    from restante.v1.submission_pb2 import SubmissionRecord
    from restante.v1.types_pb2 import MailAddress

_HOMES = {
    "restante.changes": ("FolderEvent", "MailboxEvent"),
    "restante.client": ("Client",),
    "restante.errors": ("RestanteError",),
    "restante.messages": ("OpenedMessage",),
    "restante.parts": ("Part",),
    "restante.rows": ("Message",),
    "restante.drafts": ("OutgoingFile",),
    "restante.sync_client": ("SyncClient",),
    "restante.target": ("Target",),
    "restante.unreachable": ("ServerUnreachable",),
    "restante.v1.folder_pb2": ("Folder",),
    "restante.v1.mailbox_pb2": ("Mailbox",),
    "restante.v1.search_pb2": ("Restriction",),
    "restante.v1.submission_pb2": ("SubmissionRecord",),
    "restante.v1.types_pb2": ("MailAddress",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Client",
    "Folder",
    "FolderEvent",
    "MailAddress",
    "Mailbox",
    "MailboxEvent",
    "Message",
    "OpenedMessage",
    "OutgoingFile",
    "Part",
    "RestanteError",
    "Restriction",
    "ServerUnreachable",
    "SubmissionRecord",
    "SyncClient",
    "Target",
]


def __getattr__(name: str) -> object:
    """Import a public name from the module that defines it. Raises AttributeError."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'restante' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
