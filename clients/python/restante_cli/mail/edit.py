"""`restante mail move`, `copy`, `flag`, `delete`, `recover`."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import click

from restante import errors
from restante.rows import FLAGS
from restante.v1.message_pb2 import DeleteMode, FlagOperation
from restante_cli.failures import run
from restante_cli.mail.conditions import Chosen, chosen_messages
from restante_cli.mail.context import Mail, MessageIds, flat, written
from restante_cli.output import output_option, print_json, say, show, size


def _report(form: str, what: str, count: int, asked: int) -> None:
    """Print the number of changed messages of `asked` ids, or of a condition if that is 0.

    Raises MessageNotFound when there was none.
    """
    if not count:
        raise errors.MessageNotFound("None of these messages exists." if asked else "No message matches.")
    if form == "json":
        print_json({what: count})
    else:
        missing = f"; {asked - count} did not exist" if count < asked else ""
        say(f"{count} {'message' if count == 1 else 'messages'} {what}{missing}.")


@click.command()
@chosen_messages
@click.option("--to", "folder", required=True, metavar="FOLDER", help="Target folder.")
@output_option
@click.pass_obj
def move(mail: Mail, chosen: Chosen, folder: str, form: str) -> None:
    """Move messages to another folder: those with IDS, or all that match every option."""
    run(_move(mail, chosen, folder, form))


async def _move(mail: Mail, chosen: Chosen, folder: str, form: str) -> None:
    async with mail.client() as client:
        moved = await client.messages.move(await chosen.messages(client), folder)
    _report(form, "moved", moved, len(chosen.ids))


@click.command()
@chosen_messages
@click.option("--to", "folder", required=True, metavar="FOLDER", help="Target folder.")
@output_option
@click.pass_obj
def copy(mail: Mail, chosen: Chosen, folder: str, form: str) -> None:
    """Copy messages to another folder: those with IDS, or all that match every option."""
    run(_copy(mail, chosen, folder, form))


async def _copy(mail: Mail, chosen: Chosen, folder: str, form: str) -> None:
    async with mail.client() as client:
        copied = await client.messages.copy(await chosen.messages(client), folder)
    _report(form, "copied", copied, len(chosen.ids))


@click.command()
@chosen_messages
@click.option("--add", multiple=True, metavar="FLAG", help=f"Set: {', '.join(FLAGS)}, or a keyword of your own.")
@click.option("--remove", multiple=True, metavar="FLAG", help="Remove this flag or keyword.")
@output_option
@click.pass_obj
def flag(mail: Mail, chosen: Chosen, add: tuple[str, ...], remove: tuple[str, ...], form: str) -> None:
    """Set or remove flags and keywords of the messages with IDS, or of all that match every option."""
    if not add and not remove:
        raise click.UsageError("No change was requested: give --add FLAG or --remove FLAG.")
    if add and remove and not chosen.ids:  # the first change could alter what matches the second
        raise click.UsageError("With a condition, give either --add or --remove.")
    run(_flag(mail, chosen, add, remove, form))


async def _flag(mail: Mail, chosen: Chosen, add: tuple[str, ...], remove: tuple[str, ...], form: str) -> None:
    updated = 0
    async with mail.client() as client:
        messages = await chosen.messages(client)
        for names, operation in (
            (add, FlagOperation.FLAG_OPERATION_ADD),
            (remove, FlagOperation.FLAG_OPERATION_REMOVE),
        ):
            if names:
                flags = [name.lower() for name in names if name.lower() in FLAGS]
                keywords = [name for name in names if name.lower() not in FLAGS]
                updated = await client.messages.set_flags(messages, flags, keywords=keywords, operation=operation)
    _report(form, "updated", updated, len(chosen.ids))


@click.command()
@chosen_messages
@click.option("--soft", is_flag=True, help="Skip the Trash; `recover` restores the messages for some days.")
@click.option("--hard", is_flag=True, help="Delete for good; the messages cannot be restored.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@output_option
@click.pass_obj
def delete(mail: Mail, chosen: Chosen, soft: bool, hard: bool, yes: bool, form: str) -> None:
    """Delete messages: move them to the Trash, or from there to the recoverable messages.

    The messages are those with IDS, or all that match every option.
    """
    if soft and hard:
        raise click.UsageError("--soft and --hard exclude each other.")
    if hard and not yes:
        which = str(len(chosen.ids)) if chosen.ids else "all messages that match"
        click.confirm(f"Delete {which} for good?", abort=True, err=True)
    mode = DeleteMode.DELETE_MODE_TO_TRASH
    if soft or hard:
        mode = DeleteMode.DELETE_MODE_HARD if hard else DeleteMode.DELETE_MODE_SOFT
    run(_delete(mail, chosen, mode, form))


async def _delete(mail: Mail, chosen: Chosen, mode: DeleteMode.ValueType, form: str) -> None:
    async with mail.client() as client:
        deleted = await client.messages.delete(await chosen.messages(client), mode)
    _report(form, "deleted", deleted, len(chosen.ids))


@click.command()
@click.argument("ids", nargs=-1, type=MessageIds())
@click.option("--to", "folder", metavar="FOLDER", help="Target folder; default: the folder that each message was in.")
@output_option
@click.pass_obj
def recover(mail: Mail, ids: tuple[list[int], ...], folder: str | None, form: str) -> None:
    """Recover deleted messages; without IDS, list the recoverable ones."""
    run(_recover(mail, flat(ids), folder, form) if ids else _list(mail, form))


async def _recover(mail: Mail, ids: list[int], folder: str | None, form: str) -> None:
    async with mail.client() as client:
        _report(form, "recovered", len(await client.messages.recover(ids, folder=folder)), len(ids))


async def _list(mail: Mail, form: str) -> None:
    async with mail.client() as client:
        rows: list[dict[str, Any]] = [
            {
                "id": message.message_id,
                "from": [written(author) for author in message.summary.authors],
                "subject": message.summary.subject,
                "deleted_at": message.deleted_at.ToDatetime(UTC),
                "purged_after": message.purged_after.ToDatetime(UTC),
                "size": size(message.size_octets),
                "size_octets": message.size_octets,
            }
            async for message in client.messages.recoverable()
        ]
    show(form, ("id", "from", "subject", "deleted_at", "purged_after", "size"), rows, right=("id", "size"))


COMMANDS = (move, copy, flag, delete, recover)
