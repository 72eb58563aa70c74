"""The saved session, and a client on it, for all commands of `restante mail`."""

from __future__ import annotations

import difflib
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from restante import errors
from restante.checked import short_line
from restante.client import Client
from restante.rows import Message
from restante.v1.types_pb2 import MailAddress
from restante_cli.failures import described
from restante_cli.groups import Failure
from restante_cli.inputs import read_password
from restante_cli.mail import saved_session
from restante_cli.mail.saved_session import SavedSession
from restante_cli.one_command import for_one_command

RENEW_BELOW_SECONDS = 720.0
TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Mail:
    """The command's context object."""

    path: Path
    password_file: Path | None = None

    def saved(self) -> SavedSession:
        """The session that login saved. Raises click.ClickException when there is none."""
        found = saved_session.load(self.path)
        if found is None:
            raise click.ClickException(
                "you are not logged in; run `restante mail login --server HOST:PORT --user ADDRESS` first"
            )
        return found

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client on the saved session, renewed; on a new session when login saved no token."""
        found = self.saved()
        password = "" if found.token else read_password(f"Password of {found.user}", file=self.password_file)
        async with Client.connect(
            found.server,
            user=found.user,
            password=password,
            token=found.token_octets,
            root_certificates=found.root_certificates.encode() or None,
            server_name=found.server_name,
            timeout_seconds=TIMEOUT_SECONDS,
        ) as client:
            session = client.session
            if found.token:
                session.on_change = lambda fresh: saved_session.save(self.path, found.with_token(fresh.session_token))
                if session.left_seconds < RENEW_BELOW_SECONDS:
                    await session.renew()
            async with nullcontext() if found.token else for_one_command(client):
                try:
                    yield client
                except errors.FolderNotFound as error:
                    raise await _no_folder(client, error) from None


async def _no_folder(client: Client, error: errors.FolderNotFound) -> click.ClickException:
    """The failure for a missing folder, with the nearest existing name."""
    context = click.get_current_context(silent=True)
    named = [context.params.get(name) for name in ("within", "folder")] if context is not None else []
    names = ["/".join(folder.path) async for folder in client.folders.list()]
    by_key = {name.lower(): name for name in names}
    wanted = next((name for name in named if name and name.lower() not in by_key), None)
    if not wanted:
        return Failure(described(error), error.reason)
    near = difflib.get_close_matches(wanted.lower(), by_key, 1)
    hint = f'did you mean "{by_key[near[0]]}"?' if near else "`restante mail folders` lists your folders"
    return Failure(f'no folder "{wanted}"; {hint} [{error.reason}]', error.reason)


class MessageIds(click.ParamType[list[int]]):
    """Message ids as `list` shows them: 17 or 20-25."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """The ids, with each range expanded."""
        if isinstance(value, list):
            return value
        found = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", value)
        if found is None:
            self.fail(f"{value!r} is neither a message id such as 17 nor a range such as 20-25", param, ctx)
        first, last = int(found[1]), int(found[2] or found[1])
        if not 1 <= first <= last or last - first >= 100_000:
            self.fail(f"{value!r} is not a range of message ids such as 20-25", param, ctx)
        return list(range(first, last + 1))


class Number(click.ParamType[int]):
    """One number that a listing shows, such as 17. `where` names the listing."""

    name = "id"

    def __init__(self, what: str, where: str) -> None:
        self._what, self._where = what, where

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"[1-9]\d{0,17}", value):
            self.fail(f"{value!r} is not a {self._what} such as 17; `{self._where}` shows them", param, ctx)
        return int(value)


def flat(ids: Iterable[list[int]]) -> list[int]:
    """One list without repetitions, in the order given."""
    return list(dict.fromkeys(each for some in ids for each in some))


def written(address: MailAddress) -> str:
    """An address as in a header field; the entry of an empty group as "NAME:;"."""
    if not address.address and address.group_name:
        return f"{address.group_name}:;"
    return f"{address.display_name} <{address.address}>" if address.display_name else address.address


def listed(message: Message, folder: str = "") -> dict[str, Any]:
    """A message for tables and JSON."""
    summary = message.summary
    return {
        "id": message.message_id,
        "folder": folder,
        "flags": list(message.flag_names),
        "from": [written(author) for author in summary.authors],
        "to": [written(recipient) for recipient in summary.to],
        "subject": summary.subject,
        "received_at": message.received_at,
        "size_octets": message.size_octets,
        "attachments": message.attachment_count,
        "preview": message.preview,
        "checks": short_line(message.checks),
        "message_id_field": summary.internet_message_id,
    }
