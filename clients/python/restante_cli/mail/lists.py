"""`restante mail folders`, `list`, `search`, `submissions`, `watch`."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC
from typing import Any

import click

from restante import query
from restante.client import Client
from restante.v1.folder_pb2 import FolderRole
from restante.v1.search_pb2 import Restriction
from restante.v1.submission_pb2 import RecipientState
from restante_cli.failures import run
from restante_cli.mail.conditions import condition_options
from restante_cli.mail.context import Mail, listed
from restante_cli.output import cell, one_line, output_option, print_json_line, say, show, size

COLUMNS = ("id", "read", "from", "subject", "received_at", "size")

limit_option = click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="Number of messages at most."
)


@click.command()
@output_option
@click.pass_obj
def folders(mail: Mail, form: str) -> None:
    """List your folders."""
    run(_folders(mail, form))


async def _folders(mail: Mail, form: str) -> None:
    async with mail.client() as client:
        rows = [
            {
                "id": folder.folder_id,
                "folder": "/".join(folder.path),
                "role": FolderRole.Name(folder.role).removeprefix("FOLDER_ROLE_").lower() if folder.role else "",
                "messages": folder.message_count,
                "unread": folder.unread_count,
                "size": size(folder.size_octets),
                "size_octets": folder.size_octets,
                "subscribed": folder.subscribed,
            }
            async for folder in client.folders.list()
        ]
    show(form, ("folder", "role", "messages", "unread", "size"), rows, right=("messages", "unread", "size"))


@click.command("list")
@click.argument("folder", default="INBOX")
@click.option("--unread", is_flag=True, help="Only unread messages.")
@limit_option
@output_option
@click.pass_obj
def list_messages(mail: Mail, folder: str, unread: bool, limit: int, form: str) -> None:
    """List the messages of FOLDER (default: INBOX), latest first."""
    run(_list(mail, folder, query.unread() if unread else None, limit, form))


@click.command()
@click.argument("words", nargs=-1)
@click.option("--folder", help="Only in this folder.")
@click.option("--to", help="Name or address in To.")
@condition_options
@limit_option
@output_option
@click.pass_obj
def search(
    mail: Mail,
    words: tuple[str, ...],
    folder: str | None,
    to: str | None,
    conditions: list[Restriction],
    limit: int,
    form: str,
) -> None:
    """Find messages that have all WORDS in header or text and match every option."""
    wanted = [*(query.text("any", word) for word in words), *([query.text("to", to)] if to else []), *conditions]
    if not wanted:
        raise click.UsageError("No condition was given: name words, or an option such as --from.")
    run(_list(mail, folder, query.all_of(*wanted), limit, form))


async def _list(mail: Mail, folder: str | None, restriction: Restriction | None, limit: int, form: str) -> None:
    async with mail.client() as client:
        names = {each.folder_id: "/".join(each.path) async for each in client.folders.list()}
        rows: list[dict[str, Any]] = []
        more = False
        found = client.messages.query(folder, restriction, page_size=min(limit + 1, 200))
        async with aclosing(found) as messages:  # type: ignore[type-var]
            async for message in messages:
                if len(rows) == limit:
                    more = True
                    break
                rows.append(listed(message, names.get(message.folder_id, "")))
    if form == "table":
        for row in rows:
            row.update(read="seen" in row["flags"], size=size(row["size_octets"]))
    columns = COLUMNS if folder is not None else ("id", "folder", *COLUMNS[1:])
    if any(row["checks"] for row in rows):
        columns = (*columns, "checks")
    show(form, columns, rows, right=("id", "size", "received_at"))
    if more:
        click.echo(f"The list ends after {limit} messages, and there are more; raise --limit to see them.", err=True)


@click.command()
@limit_option
@output_option
@click.pass_obj
def submissions(mail: Mail, limit: int, form: str) -> None:
    """List your submissions with the state of each recipient."""
    run(_submissions(mail, limit, form))


async def _submissions(mail: Mail, limit: int, form: str) -> None:
    rows: list[dict[str, Any]] = []
    async with mail.client() as client, aclosing(client.submissions.list()) as found:  # type: ignore[type-var]
        async for submission in found:
            for recipient in submission.recipients:
                state = RecipientState.Name(recipient.state).removeprefix("RECIPIENT_STATE_").lower()
                rows.append(
                    {
                        "id": submission.submission_id,
                        "submitted_at": submission.submitted_at.ToDatetime(UTC),
                        "subject": submission.subject,
                        "recipient": recipient.forward_path,
                        "state": state,
                        "status": recipient.status,
                        "diagnostic": recipient.diagnostic,
                    }
                )
            limit -= 1
            if not limit:
                break
    show(form, ("id", "submitted_at", "subject", "recipient", "state", "status", "diagnostic"), rows, right=("id",))


@click.command()
@click.argument("folder", default="INBOX")
@click.option("--count", type=click.IntRange(1), help="End after this number of messages.")
@output_option
@click.pass_obj
def watch(mail: Mail, folder: str, count: int | None, form: str) -> None:
    """Show messages of FOLDER (default: INBOX) as they arrive, one line each, until Ctrl-C."""
    run(_watch(mail, folder, count, form))


async def _watch(mail: Mail, folder: str, count: int | None, form: str) -> None:
    async with mail.client() as client:
        found = await client.folders.get(folder)
        next_uid = found.uid_next
        if form == "table":
            say(f"Watching {'/'.join(found.path)} ({found.message_count} messages). Ctrl-C ends it.")
        async with aclosing(client.changes.watch(found)) as events:  # type: ignore[type-var]
            async for event in events:
                fresh = [
                    message_id
                    for uid, message_id in zip(event.changes.uids, event.changes.message_ids, strict=True)
                    if uid >= next_uid
                ]
                next_uid = max([next_uid, event.changes.uid_next, *(uid + 1 for uid in event.changes.uids)])
                for row in await _arrived(client, fresh, "/".join(found.path)):
                    if form == "json":
                        print_json_line(row)
                    else:
                        when, sender = cell(row["received_at"]), cell(row["from"])
                        say(f"{row['id']:>8}  {when}  {sender}: {one_line(row['subject'])}")
                    if count is not None and (count := count - 1) == 0:
                        return


async def _arrived(client: Client, message_ids: list[int], folder: str) -> list[dict[str, Any]]:
    """Facts of messages, without those deleted or moved meanwhile."""
    if not message_ids:
        return []
    rows = []
    for start in range(0, len(message_ids), 100):
        chosen = query.ids(message_ids[start : start + 100])
        rows += [listed(message, folder) async for message in client.messages.query(None, chosen)]
    return sorted(rows, key=lambda row: row["id"])


COMMANDS = (folders, list_messages, search, submissions, watch)
