"""`restante admin queue`."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

import click
from google.protobuf.timestamp_pb2 import Timestamp

from restante.queue import Done, Queue
from restante.v1.queue_pb2 import QueueEntry, QueueSelector, StandingHold
from restante.v1.submission_pb2 import RecipientState
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.groups import Group
from restante_cli.mail.context import Number
from restante_cli.output import cell, console, heading, one_line, output_option, print_json, say, show, size
from restante_cli.reasons import reason

QUEUED = Number("queue number", "restante admin queue list")
COLUMNS = ("id", "sender", "recipient", "state", "attempts", "next_attempt", "size", "last_reply")
NARROW = ("id", "sender", "recipient", "state", "next_attempt")
WIDE = 110  # characters of a terminal that shows all COLUMNS
NULL_PATH = "<>"
STATES = ("scheduled", "pending", "leased", "held")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@click.group(cls=Group)
def queue() -> None:
    """The queue: mail that waits for delivery or relay."""


class Age(click.ParamType[timedelta]):
    """A time span such as 30m, 4h or 2d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The span."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([1-9]\d{0,4})([mhd])", value)
        if found is None:
            self.fail(f"{value!r} is not a time span such as 30m, 4h or 2d", param, ctx)
        return timedelta(**{UNITS[found[2]]: int(found[1])})


def state(value: RecipientState.ValueType) -> str:
    """A state in words for people; a note of the trace has none."""
    return RecipientState.Name(value).removeprefix("RECIPIENT_STATE_").lower() if value else "note"


def stamp(moment: datetime) -> Timestamp:
    """A moment in the contract's form."""
    made = Timestamp()
    made.FromDatetime(moment.astimezone(UTC).replace(tzinfo=None))
    return made


def selecting(*, everything: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that select recipients; the command gets them as `selector`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def called(
            transport_id: int | None,
            sender: str | None,
            recipient: str,
            destination: str,
            states: tuple[str, ...],
            older_than: timedelta | None,
            all_: bool = False,
            **rest: Any,
        ) -> None:
            selector = QueueSelector(
                transport_id=transport_id or 0,
                recipient=recipient,
                destination=destination,
                states=[RecipientState.Value(f"RECIPIENT_STATE_{name.upper()}") for name in states],
                all=all_,
            )
            if sender is not None:
                selector.sender = "" if sender == NULL_PATH else sender
            if older_than is not None:
                selector.accepted_before.CopyFrom(stamp(datetime.now(UTC) - older_than))
            if everything and selector == QueueSelector():
                raise click.UsageError("Name a message by its ID, select by --sender, --recipient, ..., or give --all.")
            if all_ and selector != QueueSelector(all=True):
                raise click.UsageError("--all excludes an ID and the other selections.")
            command(selector=selector, **rest)

        options = [
            click.argument("transport_id", metavar="[ID]", type=QUEUED, required=False),
            click.option("--sender", metavar="ADDRESS", help="Mail with this reverse-path; <> is the null path."),
            click.option("--recipient", default="", metavar="ADDRESS", help="Mail for this address."),
            click.option("--destination", "--domain", default="", metavar="DOMAIN", help="Mail for this domain."),
            click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="In this state."),
            click.option("--older-than", type=Age(), metavar="AGE", help="Mail accepted longer ago than 30m, 4h, 2d."),
        ]
        if everything:
            options.append(click.option("--all", "all_", is_flag=True, help="All that waits."))
        for option in reversed(options):
            called = option(called)
        return called

    return decorate


dry_run_option = click.option("--dry-run", is_flag=True, help="Only say how many recipients it would be.")


def _entry(entry: QueueEntry) -> dict[str, Any]:
    recipient = entry.recipient
    waits = recipient.HasField("next_attempt_at")
    held = recipient.state == RecipientState.RECIPIENT_STATE_HELD
    next_attempt_at = recipient.next_attempt_at.ToDatetime(UTC) if waits and not held else None
    return {
        "id": entry.transport_id,
        "recipient_id": entry.recipient_id,
        "sender": entry.reverse_path or NULL_PATH,
        "recipient": recipient.forward_path,
        "destination": entry.destination,
        "state": state(recipient.state),
        "attempts": recipient.attempt_count,
        "next_attempt_at": next_attempt_at,
        "next_attempt": next_attempt_at,
        "accepted_at": entry.accepted_at.ToDatetime(UTC),
        "expires_at": entry.expires_at.ToDatetime(UTC),
        "size": size(entry.size_octets),
        "size_octets": entry.size_octets,
        "status": recipient.status,
        "reason": reason(recipient.reason),
        "diagnostic": recipient.diagnostic,
        "last_reply": f"{recipient.status} {recipient.diagnostic}".strip(),
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row for programs, without the forms for people."""
    return {key: value for key, value in row.items() if key not in ("next_attempt", "size", "last_reply")}


@queue.command("list")
@selecting(everything=False)
@click.option("--limit", type=click.IntRange(1), default=1_000, show_default=True, help="Number of recipients at most.")
@output_option
@click.pass_obj
def list_queue(admin: Admin, selector: QueueSelector, limit: int, form: str) -> None:
    """List waiting recipients, the oldest message first."""
    run(_list(admin, selector, limit, form))


async def _list(admin: Admin, selector: QueueSelector, limit: int, form: str) -> None:
    rows: list[dict[str, Any]] = []
    async with admin.calls() as calls:
        async for entry in Queue(calls).list(selector):
            if len(rows) == limit:
                click.echo(f"More than {limit} recipients wait; --limit shows more.", err=True)
                break
            rows.append(_entry(entry))
    columns = COLUMNS if console().width >= WIDE else NARROW
    show(form, columns, map(_plain, rows) if form == "json" else rows, right=("id", "attempts", "size"))


@queue.command("show")
@click.argument("transport_id", metavar="ID", type=QUEUED)
@click.option("--header", is_flag=True, help="Also print the message's header; the trace notes who read it.")
@click.option("--content", is_flag=True, help="Only write the message's octets; the trace notes who read them.")
@output_option
@click.pass_obj
def show_message(admin: Admin, transport_id: int, header: bool, content: bool, form: str) -> None:
    """Show a message: its envelope and its recipients."""
    if header and content:
        raise click.UsageError("Give --header or --content.")
    run(_write(admin, transport_id) if content else _show(admin, transport_id, header, form))


async def _write(admin: Admin, transport_id: int) -> None:
    async with admin.calls() as calls:
        async for octets in Queue(calls).content(transport_id):
            sys.stdout.buffer.write(octets)


async def _show(admin: Admin, transport_id: int, header: bool, form: str) -> None:
    async with admin.calls() as calls:
        found = await Queue(calls).get(transport_id)
        octets = await Queue(calls).header(transport_id) if header else b""
    text = octets.decode("utf-8", "replace")
    facts = {
        "id": found.transport_id,
        "sender": found.reverse_path or NULL_PATH,
        "accepted_at": found.accepted_at.ToDatetime(UTC),
        "send_at": found.send_at.ToDatetime(UTC) if found.HasField("send_at") else None,
        "source": found.source,
        "message_id_field": found.internet_message_id,
        "size_octets": found.size_octets,
        "envelope_id": found.options.envelope_id,
        "smtputf8": found.options.smtputf8,
        "body_8bit": found.options.body_8bit,
    }
    rows = list(map(_entry, found.entries))
    if form == "json":
        print_json({**facts, "recipients": list(map(_plain, rows)), **({"header": text} if header else {})})
        return
    for name, value in facts.items():
        if value not in (None, "", False):
            say(f"{heading(name) + ':':18}{cell(value)}")
    for row in rows:
        say("")
        say(f"{row['recipient']}  {row['state']}  attempts: {row['attempts']}")
        if row["next_attempt"] is not None:
            say(f"    next attempt {cell(row['next_attempt'])}, until {cell(row['expires_at'])}")
        if row["last_reply"]:
            say(f"    {one_line(row['last_reply'])}")
    if header:
        say("\n" + text.rstrip())


@queue.command()
@selecting()
@click.option("--standing", is_flag=True, help="Also hold mail to come of this sender, recipient or destination.")
@dry_run_option
@click.pass_obj
def hold(admin: Admin, selector: QueueSelector, standing: bool, dry_run: bool) -> None:
    """Hold waiting recipients: no attempts and no expiry until you release them.

    A standing hold applies to mail that leaves, when it is due.
    """
    _say(admin, lambda it: it.hold(selector, standing=standing, dry_run=dry_run), dry_run, "held")


@queue.command()
@selecting()
@dry_run_option
@click.pass_obj
def release(admin: Admin, selector: QueueSelector, dry_run: bool) -> None:
    """Release held recipients, which are due at once, and end the standing hold of the same selection."""
    _say(admin, lambda it: it.release(selector, dry_run=dry_run), dry_run, "released")


@queue.command()
@output_option
@click.pass_obj
def holds(admin: Admin, form: str) -> None:
    """List the standing holds."""
    rows = [_held(one) for one in run(_holds(admin))]
    show(form, ("of", "value", "created_at", "created_by"), rows)


async def _holds(admin: Admin) -> list[StandingHold]:
    async with admin.calls() as calls:
        return [one async for one in Queue(calls).holds()]


def _held(one: StandingHold) -> dict[str, Any]:
    kind = one.WhichOneof("of") or ""
    return {
        "of": kind,
        "value": getattr(one, kind) or NULL_PATH,
        "created_at": one.created_at.ToDatetime(UTC),
        "created_by": one.created_by,
    }


@queue.command()
@selecting()
@dry_run_option
@click.pass_obj
def retry(admin: Admin, selector: QueueSelector, dry_run: bool) -> None:
    """Make pending recipients due for an attempt now."""
    _say(admin, lambda it: it.retry(selector, dry_run=dry_run), dry_run, "due for an attempt now")


@queue.command()
@selecting()
@dry_run_option
@click.pass_obj
def requeue(admin: Admin, selector: QueueSelector, dry_run: bool) -> None:
    """Resolve waiting recipients anew, after a change of domains, accounts or aliases."""
    _say(admin, lambda it: it.reroute(selector, dry_run=dry_run), dry_run, "resolved anew")


@queue.command()
@selecting()
@click.option("--silently", is_flag=True, help="Send no report to the sender.")
@dry_run_option
@click.pass_obj
def remove(admin: Admin, selector: QueueSelector, silently: bool, dry_run: bool) -> None:
    """Remove recipients from the queue; each sender gets a report."""
    _say(admin, lambda it: it.remove(selector, silently=silently, dry_run=dry_run), dry_run, "removed from the queue")


def _say(admin: Admin, operation: Callable[[Queue], Awaitable[Done]], dry_run: bool, done: str) -> None:
    async def called() -> Done:
        async with admin.calls() as calls:
            return await operation(Queue(calls))

    count = run(called())
    verb = "would be" if dry_run else "are"
    say(f"{count.recipients} recipients {verb} {done}.")
    if count.leased:
        say(f"{count.leased} more are left alone: a relay attempts them now.")
    if count.holds:
        say(f"{count.holds} standing holds have ended.")
