"""`restante admin queue` and `restante admin trace`."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC
from typing import Any

import click

from restante.v1 import methods
from restante.v1.admin_pb2 import (
    ListQueueRequest,
    MessageTrace,
    QueueEntry,
    RemoveQueuedRequest,
    RetryQueuedRequest,
    TraceMessagesRequest,
)
from restante.v1.submission_pb2 import RecipientState
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.groups import Failure, Group
from restante_cli.mail.context import Number
from restante_cli.output import cell, output_option, print_json, say, show, size

QUEUED = Number("queue number", "restante admin queue list")
COLUMNS = ("id", "recipient", "state", "attempts", "next_attempt_at", "size", "diagnostic")
NULL_PATH = "<>"


@click.group(cls=Group)
def queue() -> None:
    """The queue: mail that waits for delivery or relay."""


def state(value: RecipientState.ValueType) -> str:
    """A state in words for people."""
    return RecipientState.Name(value).removeprefix("RECIPIENT_STATE_").lower()


def _entry(entry: QueueEntry) -> dict[str, Any]:
    recipient = entry.recipient
    waits = recipient.HasField("next_attempt_at")
    return {
        "id": entry.transport_id,
        "recipient_id": entry.recipient_id,
        "reverse_path": entry.reverse_path or NULL_PATH,
        "recipient": recipient.forward_path,
        "destination": entry.destination,
        "state": state(recipient.state),
        "attempts": recipient.attempt_count,
        "next_attempt_at": recipient.next_attempt_at.ToDatetime(UTC) if waits else None,
        "accepted_at": entry.accepted_at.ToDatetime(UTC),
        "size": size(entry.size_octets),
        "size_octets": entry.size_octets,
        "status": recipient.status,
        "diagnostic": recipient.diagnostic,
    }


@queue.command("list")
@click.option("--destination", default="", metavar="DOMAIN", help="List only recipients of this destination domain.")
@output_option
@click.pass_obj
def list_queue(admin: Admin, destination: str, form: str) -> None:
    """List the waiting recipients, ordered by their next attempt."""
    run(_list(admin, destination, form))


async def _list(admin: Admin, destination: str, form: str) -> None:
    async with admin.calls() as calls:
        request = ListQueueRequest(destination=destination, page_size=200)
        pages = calls.pages(methods.LIST_QUEUE, request)
        rows = [_entry(each) async for page in pages for each in page.entries]
    show(form, COLUMNS, rows, right=("id", "attempts", "size"))


@queue.command()
@click.argument("transport_id", metavar="[ID]", type=QUEUED, required=False)
@click.option("--all", "everything", is_flag=True, help="Retry all waiting recipients.")
@click.pass_obj
def retry(admin: Admin, transport_id: int | None, everything: bool) -> None:
    """Make the waiting recipients of a message due now."""
    if (transport_id is None) != everything:
        raise click.UsageError("Name one message by its ID, or give --all.")
    request = RetryQueuedRequest(all=True) if transport_id is None else RetryQueuedRequest(transport_id=transport_id)
    say(f"{run(_retry(admin, request))} recipients are due for an attempt now.")


async def _retry(admin: Admin, request: RetryQueuedRequest) -> int:
    async with admin.calls() as calls:
        return (await calls.execute(methods.RETRY_QUEUED, request)).recipient_count


@queue.command()
@click.argument("transport_id", metavar="ID", type=QUEUED)
@click.option("--silently", is_flag=True, help="Send no report to the sender.")
@click.pass_obj
def remove(admin: Admin, transport_id: int, silently: bool) -> None:
    """Remove a message from the queue; its sender gets a report."""
    say(f"{run(_remove(admin, transport_id, silently))} recipients were removed from the queue.")


async def _remove(admin: Admin, transport_id: int, silently: bool) -> int:
    async with admin.calls() as calls:
        request = RemoveQueuedRequest(transport_id=transport_id, silently=silently)
        return (await calls.execute(methods.REMOVE_QUEUED, request)).recipient_count


@click.command()
@click.argument("what")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Number of messages at most.")
@output_option
@click.pass_obj
def trace(admin: Admin, what: str, limit: int, form: str) -> None:
    """Show each step of messages. WHAT is an id, a Message-ID in angle brackets, or an address.

    An address is compared in the spelling of the envelope, letter case included.
    """
    request = TraceMessagesRequest(page_size=min(limit, 100))
    if what.isdecimal():
        request.transport_id = int(what)
    elif what.startswith("<"):
        request.internet_message_id = what
    else:
        request.address = what
    run(_trace(admin, request, limit, form))


async def _trace(admin: Admin, request: TraceMessagesRequest, limit: int, form: str) -> None:
    found: list[MessageTrace] = []
    async with admin.calls() as calls, aclosing(calls.pages(methods.TRACE_MESSAGES, request)) as pages:  # type: ignore[type-var]
        async for page in pages:
            found.extend(page.traces[: limit - len(found)])
            if len(found) == limit:
                break
    if form == "json":
        print_json([_traced(each) for each in found])
    if not found:
        raise Failure(
            "no trace matches; a trace is kept for transport.trace_days after the message was accepted or, "
            "if scheduled, sent"
        )
    if form == "json":
        return
    for message in map(_traced, found):
        say(
            f"{message['id']}  {cell(message['accepted_at'])}  from {message['reverse_path']}  "
            f"{size(message['size_octets'])}  by {message['source']}  {message['message_id_field']}"
        )
        for event in message["events"]:
            say(f"    {cell(event['happened_at'])}  {event['recipient']}  {event['state']}  {event['detail']}")


def _traced(message: MessageTrace) -> dict[str, Any]:
    return {
        "id": message.transport_id,
        "accepted_at": message.accepted_at.ToDatetime(UTC),
        "reverse_path": message.reverse_path or NULL_PATH,
        "message_id_field": message.internet_message_id,
        "size_octets": message.size_octets,
        "source": message.source,
        "events": [
            {
                "happened_at": event.happened_at.ToDatetime(UTC),
                "recipient_id": event.recipient_id,
                "recipient": event.forward_path,
                "state": state(event.state),
                "detail": event.detail,
            }
            for event in message.events
        ],
    }


COMMANDS = (trace,)
