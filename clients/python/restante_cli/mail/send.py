"""`restante mail send` and `cancel`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from restante.v1.submission_pb2 import RecipientState, SubmissionRecord
from restante_cli.failures import run
from restante_cli.mail.conditions import DAYS, moment
from restante_cli.mail.context import Mail, Number
from restante_cli.output import output_option, print_json, say, transfer_progress
from restante_cli.reasons import reason
from restante_mail.text.html import lines_of_html


@click.command()
@click.argument("text", required=False)
@click.option("--to", multiple=True, metavar="ADDRESS", help="Recipient; may be repeated.")
@click.option("--cc", multiple=True, metavar="ADDRESS", help="Recipient of a copy.")
@click.option("--bcc", multiple=True, metavar="ADDRESS", help="Recipient hidden from the others.")
@click.option("--from", "author", metavar="ADDRESS", help="Address in From, if you have several.")
@click.option("--subject", default="", help="Subject of the message.")
@click.option("--html", is_flag=True, help="TEXT is HTML; a plain-text form is added.")
@click.option(
    "--attach",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file to attach; may be repeated.",
)
@click.option("--at", "send_at", type=click.DateTime(DAYS), callback=moment, help="Send at this time instead of now.")
@click.option("--draft", is_flag=True, help="Save the message in Drafts instead of sending it.")
@output_option
@click.pass_obj
def send(
    mail: Mail,
    text: str | None,
    to: tuple[str, ...],
    cc: tuple[str, ...],
    bcc: tuple[str, ...],
    author: str | None,
    subject: str,
    html: bool,
    attach: tuple[Path, ...],
    send_at: datetime | None,
    draft: bool,
    form: str,
) -> None:
    """Send a message. Its text is TEXT, or else standard input."""
    if not (to or cc or bcc or draft):
        raise click.UsageError("A message needs a recipient: --to, --cc or --bcc.")
    if send_at is not None and send_at <= datetime.now(UTC):
        raise click.BadParameter(
            f"{send_at:%Y-%m-%d %H:%M %z} is in the past; omit --at to send now", param_hint="--at"
        )
    if text is None:
        if sys.stdin.isatty():
            click.echo("Write the text; Ctrl-D ends it.", err=True)
        text = sys.stdin.read()
    run(_send(mail, text, to, cc, bcc, author, subject, html, attach, send_at, draft, form))


async def _send(
    mail: Mail,
    text: str,
    to: tuple[str, ...],
    cc: tuple[str, ...],
    bcc: tuple[str, ...],
    author: str | None,
    subject: str,
    html: bool,
    attach: tuple[Path, ...],
    send_at: datetime | None,
    draft: bool,
    form: str,
) -> None:
    async with mail.client() as client:
        with transfer_progress("Attachments") as told:
            composed = await client.drafts.compose(
                to=to,
                cc=cc,
                bcc=bcc,
                author=author,
                subject=subject,
                text=lines_of_html(text) if html else text,
                html=text if html else "",
                attachments=attach,
                on_progress=told,
            )
        if draft:
            saved = await client.drafts.save(composed)
            if form == "json":
                print_json({"id": saved.message_id, "size_octets": saved.size_octets})
            else:
                say(f"Saved as draft {saved.message_id}.")
            return
        sent = await client.submissions.submit(composed, send_at=send_at)
    for failed in sent.failed_before:
        day = failed.failed_at.ToDatetime(UTC).astimezone().date()
        click.echo(f"Warning: earlier mail to {failed.address} has failed ({day}): {failed.diagnostic}", err=True)
    report(sent.submission, form, sent_message_id=sent.sent_message_id)


def report(submission: SubmissionRecord, form: str, *, sent_message_id: int = 0) -> None:
    """Print the state of each recipient."""
    recipients = [
        {
            "recipient": recipient.forward_path,
            "state": RecipientState.Name(recipient.state).removeprefix("RECIPIENT_STATE_").lower(),
            "status": recipient.status,
            "reason": reason(recipient.reason),
            "diagnostic": recipient.diagnostic,
        }
        for recipient in submission.recipients
    ]
    if form == "json":
        print_json(
            {"id": submission.submission_id, "sent_message_id": sent_message_id or None, "recipients": recipients}
        )
        return
    for entry in recipients:
        detail = f" ({entry['diagnostic']})" if entry["diagnostic"] else ""
        say(f"{entry['recipient']}: {entry['state']}{detail}")


@click.command()
@click.argument("submission_id", metavar="ID", type=Number("submission number", "restante mail submissions"))
@output_option
@click.pass_obj
def cancel(mail: Mail, submission_id: int, form: str) -> None:
    """Cancel a submission for the recipients to whom it was not sent yet; `submissions` lists its number."""
    run(_cancel(mail, submission_id, form))


async def _cancel(mail: Mail, submission_id: int, form: str) -> None:
    async with mail.client() as client:
        submission = await client.submissions.cancel(submission_id)
    report(submission, form)


COMMANDS = (send, cancel)
