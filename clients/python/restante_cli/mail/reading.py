"""`restante mail show`: a message's header and text, one of its parts, or all its octets."""

from __future__ import annotations

import asyncio
import email.parser
import email.policy
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from restante import errors, transfer
from restante.client import Client
from restante.messages import OpenedMessage
from restante.structure import Part
from restante_cli.html_text import html_text
from restante_cli.mail.context import Mail, Number, listed
from restante_cli.output import console, one_line, print_json, say, size, transfer_progress
from restante_cli.running import run

SHOWN_FIELDS = ("From", "To", "Cc", "Bcc", "Reply-To", "Subject", "Date")
FORMS = ("table", "json")
MAX_TEXT_OCTETS = 1 << 20  # of encoded text that is shown


@click.command()
@click.argument("message_id", metavar="ID", type=Number("message number", "restante mail list"))
@click.option("--headers", is_flag=True, help="The whole header.")
@click.option("--part", metavar="N", help="Only this part, decoded, such as 2 or 2.1.")
@click.option("--raw", is_flag=True, help="The message octet for octet.")
@click.option("--output", metavar="FORM|FILE", default=None, help="table or json; else a file to write.")
@click.option("--keep-unread", is_flag=True, help="Do not mark it as read.")
@click.pass_obj
def show(
    mail: Mail, message_id: int, headers: bool, part: str | None, raw: bool, output: str | None, keep_unread: bool
) -> None:
    """Show a message: its header, text and attachments.

    With --part or --raw, octets go to --output FILE, which must not be there yet, or to standard output.
    """
    if part is not None or raw:
        if part is not None and raw:
            raise click.UsageError("--part and --raw exclude each other.")
        run(_save(mail, message_id, part, Path(output) if output not in (None, "-") else None))
        return
    if output not in (None, *FORMS):
        raise click.UsageError("--output is table or json; a file goes with --part or --raw.")
    run(_show(mail, message_id, headers, output or "table", not keep_unread))


async def _show(mail: Mail, message_id: int, whole_header: bool, form: str, mark_seen: bool) -> None:
    async with mail.client() as client:
        opened = await client.open_message(message_id, mark_seen=mark_seen)
        text = await _text(client, opened)
        folder = await client.folder(opened.facts.folder_id)
    if form == "json":
        print_json(_as_json(opened, "/".join(folder.path), text))
        return
    header = transfer.text(opened.header, "utf-8")
    say(header.rstrip("\n") if whole_header else "\n".join(_fields(opened.header)))
    click.echo()
    say(text.rstrip("\n"))
    attachments = list(opened.structure.attachments())
    if attachments:
        table = Table(box=None, pad_edge=False, title_justify="left", title="\nAttachments (--part N --output FILE)")
        for column in ("Part", "Name", "Type", "Encoded"):
            table.add_column(column)
        for part in attachments:
            row = (part.label, one_line(part.file_name), one_line(part.media_type), size(part.size_octets))
            table.add_row(*map(Text, row))
        console().print(table)


async def _text(client: Client, opened: OpenedMessage) -> str:
    """What there is to read: plain text, else HTML without its markup."""
    for media_type in ("text/plain", "text/html"):
        part = opened.structure.find(media_type)
        if part is None:
            continue
        if part.size_octets > MAX_TEXT_OCTETS:
            return f"(The text has {size(part.size_octets)}: read it with --part {part.label}.)"
        text = await client.part_text(opened.facts.message_id, part)
        return html_text(text) if media_type == "text/html" else text
    return "(There is no text.)"


def _fields(header: bytes) -> list[str]:
    parsed = email.parser.BytesHeaderParser(policy=email.policy.default).parsebytes(header)
    return [f"{name}: {one_line(str(value))}" for name in SHOWN_FIELDS for value in parsed.get_all(name, ())]


def _as_json(opened: OpenedMessage, folder: str, text: str) -> dict[str, Any]:
    value = listed(opened.facts, folder)
    value["header"] = transfer.text(opened.header, "utf-8")
    value["text"] = text
    value["parts"] = [
        {
            "part": part.label,
            "media_type": part.media_type,
            "file_name": part.file_name,
            "disposition": part.disposition,
            "encoded_octets": part.size_octets,
            "attachment": part.is_attachment,
        }
        for part in opened.structure.walk()
        if not part.media_type.startswith("multipart/")
    ]
    value["attachments"] = sum(1 for _ in opened.structure.attachments())
    return value


async def _save(mail: Mail, message_id: int, label: str | None, file: Path | None) -> None:
    async with mail.client() as client:
        with transfer_progress(f"Message {message_id}") as told:
            if label is None:
                pieces = client.read_stream(message_id, on_progress=told)
            else:
                part = _find(await client.open_message(message_id), label)
                pieces = client.part_stream(message_id, part, on_progress=told)
            written = await _write(pieces, file)
    if file is not None:
        say(f"{file}: {written} octets.")


def _find(opened: OpenedMessage, label: str) -> Part:
    for part in opened.structure.walk():
        if part.label == label and not part.media_type.startswith("multipart/"):
            return part
    raise errors.PartNotFound(part=label)


async def _write(pieces: AsyncIterator[bytes], file: Path | None) -> int:
    """Write the octets to a new file, or to standard output; how many. What is incomplete is removed."""
    written = 0
    if file is None:
        async for piece in pieces:
            written += await asyncio.to_thread(sys.stdout.buffer.write, piece)
        sys.stdout.buffer.flush()
        return written
    with await asyncio.to_thread(file.open, "xb") as target:
        try:
            async for piece in pieces:
                written += await asyncio.to_thread(target.write, piece)
        except BaseException:
            await asyncio.to_thread(file.unlink, missing_ok=True)
            raise
    return written


COMMANDS = (show,)
