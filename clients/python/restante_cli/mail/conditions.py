"""Options that name messages by conditions, for `search` and for commands that change many messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar

import click

from restante import query
from restante.checked import METHODS, RESULTS
from restante.client import Client
from restante.messages import MessageIds
from restante.v1.search_pb2 import Restriction
from restante_cli.mail.context import MessageIds as MessageIdRange
from restante_cli.mail.context import flat

DAYS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z")

Command = TypeVar("Command", bound=Callable[..., Any])


def moment(_context: click.Context, _option: click.Parameter, value: datetime | None) -> datetime | None:
    """An aware time; a time without a zone is local."""
    return value.astimezone() if value is not None else None


def checks_of(_context: click.Context, _option: click.Parameter, values: Sequence[str]) -> list[Restriction]:
    """Conditions on checks."""
    return [_check(value) for value in values]


def _check(value: str) -> Restriction:
    check, _, result = value.lower().partition("=")
    if check not in METHODS:
        raise click.BadParameter(f"{check} is no check; there are {', '.join(METHODS)}.")
    if result and result not in RESULTS:
        raise click.BadParameter(f"{result} is no result; there are {', '.join(RESULTS)}.")
    return query.checked(check, *([result] if result else []))


_OPTIONS = (
    click.option("--from", "sender", help="Name or address in From."),
    click.option("--subject", help="Text of the subject."),
    click.option("--since", type=click.DateTime(DAYS), callback=moment, help="Received on this day or later."),
    click.option("--before", type=click.DateTime(DAYS), callback=moment, help="Received before this day."),
    click.option("--unread", is_flag=True, help="Only unread messages."),
    click.option("--flagged", is_flag=True, help="Only flagged messages."),
    click.option(
        "--check",
        "checks",
        multiple=True,
        metavar="CHECK[=RESULT]",
        callback=checks_of,
        help="Only received messages whose check (spf, dkim, dmarc, arc, iprev, dnslists) had this result, such as "
        "dmarc=fail.",
    ),
    click.option("--larger", type=click.IntRange(0), metavar="OCTETS", help="Only messages larger than this size."),
)


def condition_options(command: Command) -> Command:
    """Add the options to a command, which gets their conditions as the argument `conditions`."""

    @wraps(command)
    def run(
        *arguments: Any,
        sender: str | None,
        subject: str | None,
        since: datetime | None,
        before: datetime | None,
        unread: bool,
        flagged: bool,
        larger: int | None,
        checks: list[Restriction],
        **others: Any,
    ) -> Any:
        conditions = [query.text(field, value) for field, value in (("from", sender), ("subject", subject)) if value]
        if since is not None or before is not None:
            conditions.append(query.received(since=since, before=before))
        if unread:
            conditions.append(query.unread())
        if flagged:
            conditions.append(query.flag("flagged"))
        if larger is not None:
            conditions.append(query.larger(larger))
        conditions += checks
        return command(*arguments, conditions=conditions, **others)

    decorated: Any = run
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    added: Command = decorated
    return added


class Chosen:
    """The messages that a command names: by ids, or all that match conditions in one folder or in all."""

    def __init__(self, ids: Sequence[int], conditions: Sequence[Restriction], within: str | None) -> None:
        """Raises UsageError unless there are either ids or conditions."""
        if ids and (conditions or within):
            raise click.UsageError("Name messages by IDS or by options such as --from, not by both.")
        if not ids and not conditions and not within:
            raise click.UsageError("No message was named: give IDS, or an option such as --from.")
        self.ids, self._conditions, self._within = ids, conditions, within

    async def messages(self, client: Client) -> MessageIds:
        """The messages for a call of the client. Raises FolderNotFound."""
        if self.ids:
            return self.ids
        folder_id = await client.folders.id_of(self._within) if self._within else 0
        return query.matching(query.all_of(*self._conditions), folder_id=folder_id)


def chosen_messages(command: Command) -> Command:
    """Add IDS and the options to a command, which gets its messages as the argument `chosen`."""

    @wraps(command)
    def run(
        *arguments: Any,
        ids: tuple[list[int], ...],
        conditions: list[Restriction],
        within: str | None,
        match: tuple[str, ...],
        **others: Any,
    ) -> Any:
        texts = [query.text("any", word) for word in match]
        return command(*arguments, chosen=Chosen(flat(ids), [*texts, *conditions], within), **others)

    decorated: Any = run
    for option in (
        click.option("--in", "within", metavar="FOLDER", help="Instead of IDS: in this folder."),
        click.option("--match", multiple=True, metavar="WORD", help="Instead of IDS: with this in header or text."),
        click.argument("ids", nargs=-1, type=MessageIdRange()),
    ):
        decorated = option(decorated)
    added: Command = condition_options(decorated)
    return added
