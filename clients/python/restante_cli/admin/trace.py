"""`restante admin trace`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from restante.checked import short_line
from restante.v1 import methods
from restante.v1.admin_pb2 import MessageTrace, TraceMessagesRequest
from restante_cli.admin.context import Admin
from restante_cli.admin.queue import NULL_PATH, Age, stamp, state
from restante_cli.failures import run
from restante_cli.groups import Failure
from restante_cli.output import console, one_line, output_option, print_json, say, size
from restante_cli.reasons import reason

TIME = "%Y-%m-%d %H:%M:%S"
STATE_WIDTH = 11
INDENT = 2


@click.command()
@click.argument("what", required=False, default="")
@click.option("--sender", metavar="ADDRESS", help="Only messages with this reverse-path; <> is the null path.")
@click.option("--recipient", default="", metavar="ADDRESS", help="Only messages with this recipient.")
@click.option("--newer-than", type=Age(), metavar="AGE", help="Only messages accepted within this time: 30m, 4h, 2d.")
@click.option("--older-than", type=Age(), metavar="AGE", help="Only messages accepted longer ago.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Number of messages at most.")
@output_option
@click.pass_obj
def trace(
    admin: Admin,
    what: str,
    sender: str | None,
    recipient: str,
    newer_than: timedelta | None,
    older_than: timedelta | None,
    limit: int,
    form: str,
) -> None:
    """Show each step of messages, the latest first. WHAT is an id, a Message-ID in angle brackets, or an address.

    An address is compared in the spelling of the envelope, letter case before the @ included.
    """
    request = TraceMessagesRequest(page_size=min(limit, 100), recipient=recipient)
    if what.isdecimal():
        request.transport_id = int(what)
    elif what.startswith("<"):
        request.internet_message_id = what
    elif what:
        request.address = what
    if sender is not None:
        request.sender = "" if sender == NULL_PATH else sender
    if newer_than is not None:
        request.accepted_from.CopyFrom(stamp(datetime.now(UTC) - newer_than))
    if older_than is not None:
        request.accepted_before.CopyFrom(stamp(datetime.now(UTC) - older_than))
    run(_trace(admin, request, limit, form))


async def _trace(admin: Admin, request: TraceMessagesRequest, limit: int, form: str) -> None:
    found: list[MessageTrace] = []
    async with admin.calls() as calls, aclosing(calls.pages(methods.TRACE_MESSAGES, request)) as pages:  # type: ignore[type-var]
        async for page in pages:
            found.extend(page.traces[: limit - len(found)])
            if len(found) == limit:
                break
    if form == "json":
        print_json([traced(each) for each in found])
    if not found:
        raise Failure(
            "no trace matches; a trace is kept for transport.trace_days after the message was accepted or, "
            "if scheduled, sent"
        )
    if form == "json":
        return
    width = console().width
    for number, message in enumerate(map(traced, found)):
        say("\n".join([*([""] if number else []), *lines(message, width)]))


def lines(message: dict[str, Any], width: int) -> Iterator[str]:
    """The lines of one message for people, at most `width` characters each where words permit."""
    facts = f"{message['id']}  from {message['reverse_path']}  {size(message['size_octets'])}  by {message['source']}"
    yield from _wrapped(facts, width, 4)
    if message["message_id_field"]:
        yield from _wrapped(f"    {message['message_id_field']}", width, 4)
    if message["checks"]:
        yield from _wrapped(f"    checks: {one_line(message['checks'])}", width, 4)
    for event in message["events"]:
        moment = event["happened_at"].astimezone().strftime(TIME)
        who = event["recipient"] or "(message)"
        begun = f"{' ' * INDENT}{moment}  {event['state']:{STATE_WIDTH}}{one_line(who)}"
        yield from _wrapped(f"{begun}  {one_line(event['detail'])}".rstrip(), width, INDENT + 21 + STATE_WIDTH)


def _wrapped(text: str, width: int, indent: int) -> Iterator[str]:
    """The text in lines; those after the first begin with `indent` spaces. Longer words stand alone."""
    while len(text) > width:
        at = text.rfind(" ", indent + 1, width + 1)
        if at < 0:
            at = text.find(" ", width)
        if at < 0:
            break
        yield text[:at].rstrip()
        text = " " * indent + text[at:].lstrip()
    yield text


def traced(message: MessageTrace) -> dict[str, Any]:
    """A message's trace for programs; people get `lines` of it."""
    return {
        "id": message.transport_id,
        "accepted_at": message.accepted_at.ToDatetime(UTC),
        "reverse_path": message.reverse_path or NULL_PATH,
        "message_id_field": message.internet_message_id,
        "size_octets": message.size_octets,
        "source": message.source,
        "checks": short_line(message.checks),
        "events": [
            {
                "happened_at": event.happened_at.ToDatetime(UTC),
                "recipient_id": event.recipient_id,
                "recipient": event.forward_path,
                "state": state(event.state),
                "reason": reason(event.reason),
                "detail": event.detail,
            }
            for event in message.events
        ],
    }


COMMANDS = (trace,)
