"""`restante mail show`: show a message's header and text, one of its parts, or all its octets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from restante import errors
from restante.checked import short_line
from restante.client import Client
from restante.messages import OpenedMessage
from restante.parts import Part
from restante_cli.failures import run
from restante_cli.mail.context import Mail, Number, listed
from restante_cli.output import console, one_line, print_json, say, size, transfer_progress
from restante_mail.header.address_list import parse_address_list
from restante_mail.header.addresses import addresses, shown
from restante_mail.header.fields import raw_fields, wanted
from restante_mail.header.words import decode_text
from restante_mail.limits import DEFAULT_LIMITS
from restante_mail.text.charsets import decode
from restante_mail.text.html import lines_of_html

SHOWN_FIELDS = ("From", "To", "Cc", "Bcc", "Reply-To", "Subject", "Date")
TEXT_FIELDS = ("Subject", "Date")  # the others hold addresses
FORMS = ("table", "json")
MAX_TEXT_OCTETS = 1 << 20  # of encoded text that is shown


@click.command()
@click.argument("message_id", metavar="ID", type=Number("message number", "restante mail list"))
@click.option("--headers", is_flag=True, help="Show the whole header.")
@click.option("--part", metavar="N", help="Show only this part, decoded, such as 2 or 2.1.")
@click.option("--raw", is_flag=True, help="Print the message as stored, octet for octet.")
@click.option(
    "--output", metavar="FORM|FILE", default=None, help="table or json; with --part or --raw also a file to write."
)
@click.option("--keep-unread", is_flag=True, help="Do not mark the message as read.")
@click.pass_obj
def show(
    mail: Mail, message_id: int, headers: bool, part: str | None, raw: bool, output: str | None, keep_unread: bool
) -> None:
    """Show a message: its header, text and attachments.

    With --part or --raw, octets go to --output FILE, which must not exist yet, or to standard output.
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
        opened = await client.messages.open(message_id, mark_seen=mark_seen)
        text = await _text(client, opened)
        folder = await client.folders.get(opened.facts.folder_id)
    if form == "json":
        print_json(_as_json(opened, "/".join(folder.path), text))
        return
    header = _text_of(opened.header)
    say(header.rstrip("\n") if whole_header else "\n".join(_fields(opened.header)))
    if checks := short_line(opened.facts.checks):
        say(f"Checks: {one_line(checks)}")
    click.echo()
    say(text.rstrip("\n"))
    attachments = list(opened.root.attachments())
    if attachments:
        table = Table(box=None, pad_edge=False, title_justify="left", title="\nAttachments (--part N --output FILE)")
        for column in ("Part", "Name", "Type", "Encoded"):
            table.add_column(column)
        for part in attachments:
            row = (part.label, one_line(_name(part)), one_line(part.media_type), size(part.size_octets))
            table.add_row(*map(Text, row))
        console().print(table)


def _name(part: Part) -> str:
    """The file name of an attachment; the subject of an attached message without one."""
    return part.file_name or (part.summary.subject if part.summary is not None else "")


async def _text(client: Client, opened: OpenedMessage) -> str:
    """The readable text: plain text, or HTML without its markup."""
    for media_type in ("text/plain", "text/html"):
        part = opened.root.find(media_type)
        if part is None:
            continue
        if part.size_octets > MAX_TEXT_OCTETS:
            return f"(The text of {size(part.size_octets)} is not shown; read it with --part {part.label}.)"
        text = await client.contents.read_text(opened.facts.message_id, part)
        return lines_of_html(text) if media_type == "text/html" else text
    return "(The message has no text.)"


def _fields(header: bytes) -> list[str]:
    """The header fields to show, decoded as the core decodes them for `restante mail list`."""
    found = raw_fields(header, wanted(" ".join(SHOWN_FIELDS)), DEFAULT_LIMITS.field_octets)
    return [f"{name}: {one_line(_value(name, raw))}" for name in SHOWN_FIELDS for raw in found.get(name.lower(), ())]


def _value(name: str, raw: str) -> str:
    return decode_text(raw) if name in TEXT_FIELDS else shown(addresses(parse_address_list(raw)))


def _text_of(header: bytes) -> str:
    """A whole header block, undecoded; line ends are LF."""
    return decode(header, "utf-8").replace("\r\n", "\n")


def _as_json(opened: OpenedMessage, folder: str, text: str) -> dict[str, Any]:
    value = listed(opened.facts, folder)
    value["header"] = _text_of(opened.header)
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
        for part in opened.root.walk()
        if not part.is_multipart
    ]
    value["attachments"] = sum(1 for _ in opened.root.attachments())
    return value


async def _save(mail: Mail, message_id: int, label: str | None, file: Path | None) -> None:
    async with mail.client() as client:
        with transfer_progress(f"Message {message_id}") as told:
            if label is None:
                pieces = client.contents.stream(message_id, on_progress=told)
            else:
                part = _find(await client.messages.open(message_id), label)
                pieces = client.contents.stream_part(message_id, part, on_progress=told)
            written = await _write(pieces, file)
    if file is not None:
        say(f"{file}: {written} octets written.")


def _find(opened: OpenedMessage, label: str) -> Part:
    for part in opened.root.walk():
        if part.label == label and not part.is_multipart:
            return part
    raise errors.PartNotFound(part=label)


async def _write(pieces: AsyncIterator[bytes], file: Path | None) -> int:
    """Write the octets to a new file or to standard output, and return their number. Removes an incomplete file."""
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
