"""Many accounts from a CSV file."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import dataclass, field
from pathlib import Path

import click

from restante import errors
from restante.calls import Calls
from restante.cli.admin.context import Admin
from restante.cli.output import count_progress, print_json, say
from restante.cli.running import described
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest

AT_ONCE = 16  # passwords are hashed on several threads
HASH_PREFIX = "$argon2id$"
COLUMNS = ("address", "password", "name", "quota_octets")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file."""

    number: int
    address: str
    password: str = field(repr=False)  # or a hash
    name: str = ""
    quota_octets: int | None = None

    def request(self) -> CreateAccountRequest:
        """What makes the account."""
        hashed = self.password.startswith(HASH_PREFIX)
        return CreateAccountRequest(
            address=self.address,
            display_name=self.name,
            password="" if hashed else self.password,
            password_hash=self.password if hashed else "",
            quota_octets=self.quota_octets,
        )


@dataclass(slots=True)
class _Outcome:
    created: int = 0
    present: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def read_lines(file: Path) -> list[Line]:
    """The lines of a file; a first line of column names and empty lines are passed over.

    Raises click.ClickException that names the line which cannot be understood.
    """
    lines: list[Line] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            for row in (reader := csv.reader(opened, strict=True)):
                cells = [cell.strip() if index != 1 else cell for index, cell in enumerate(row)]
                if not any(cells) or (not lines and cells[0].lower() == COLUMNS[0]):
                    continue
                lines.append(_line(reader.line_num, cells))
    except (csv.Error, ValueError) as error:
        raise click.ClickException(f"{file}: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    return lines


def _line(number: int, cells: list[str]) -> Line:
    if not 2 <= len(cells) <= len(COLUMNS) or not cells[0] or not cells[1]:
        raise ValueError(f"line {number}: {', '.join(COLUMNS)} are needed, the last two if wanted")
    address, password, name, quota = [*cells, "", ""][:4]
    if quota and not quota.isdecimal():
        raise ValueError(f"line {number}: {quota!r} is no number of octets")
    return Line(number, address, password, name, int(quota) if quota else None)


async def run_import(admin: Admin, lines: list[Line], form: str) -> None:
    """Make the accounts, several at once. Raises click.ClickException when some could not be made."""
    outcome, queue = _Outcome(), iter(lines)
    with count_progress("Accounts", len(lines)) as told:

        async def work(calls: Calls) -> None:
            for line in queue:
                await _make(calls, line, outcome)
                told(outcome.created + outcome.present + len(outcome.failed), len(lines))

        async with admin.calls() as calls:
            await asyncio.gather(*(work(calls) for _ in range(AT_ONCE)))
    if form == "json":
        failures = [{"line": number, "problem": problem} for number, problem in sorted(outcome.failed.items())]
        print_json({"created": outcome.created, "present": outcome.present, "failed": failures})
    else:
        for number, problem in sorted(outcome.failed.items()):
            click.echo(f"line {number}: {problem}", err=True)
        say(f"{outcome.created} created, {outcome.present} there already, {len(outcome.failed)} failed.")
    if outcome.failed:
        raise click.ClickException(f"{len(outcome.failed)} of {len(lines)} accounts could not be made")


async def _make(calls: Calls, line: Line, outcome: _Outcome) -> None:
    try:
        await calls.execute(methods.CREATE_ACCOUNT, line.request(), independent=True)
    except errors.AddressExists:
        outcome.present += 1
    except errors.RestanteError as error:
        if not error.caused_by_client or isinstance(error, errors.PermissionDenied | errors.InvalidSession):
            raise  # the next line would fail like this one
        outcome.failed[line.number] = f"{line.address}: {described(error)}"
    else:
        outcome.created += 1
