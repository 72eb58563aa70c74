"""Import of accounts from a CSV file."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import dataclass, field
from pathlib import Path

import click

from restante import errors
from restante.calls import Calls
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest
from restante_cli.admin.context import Admin, size_octets
from restante_cli.failures import described
from restante_cli.output import count_progress, print_json, say

AT_ONCE = 16  # calls in flight: the core hashes passwords on several threads
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
        """The request that creates the account."""
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


def read_lines(file: Path) -> tuple[list[Line], dict[int, str]]:
    """The lines of a file, and {number: problem} of the invalid lines.

    Skips a first line of column names and empty lines. Raises click.ClickException for a file that is not CSV in
    UTF-8, before any account is created.
    """
    lines: list[Line] = []
    bad: dict[int, str] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            for row in reader:
                cells = [cell.strip() if index != 1 else cell for index, cell in enumerate(row)]
                if not any(cells) or (not lines and not bad and cells[0].lower() == COLUMNS[0]):
                    continue
                try:
                    lines.append(_line(reader.line_num, cells))
                except click.BadParameter as problem:
                    bad[reader.line_num] = problem.message
    except csv.Error as error:
        raise click.ClickException(f"{file}: {error}; no account was created") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{file} is not UTF-8; no account was created") from None
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    return lines, bad


def _line(number: int, cells: list[str]) -> Line:
    if not 2 <= len(cells) <= len(COLUMNS) or not cells[0] or not cells[1]:
        raise click.BadParameter(f"a line needs the columns {', '.join(COLUMNS)}; the last two are optional")
    address, password, name, quota = [*cells, "", ""][:4]
    return Line(number, address, password, name, size_octets(quota) if quota else None)


async def run_import(admin: Admin, lines: list[Line], bad: dict[int, str], form: str) -> None:
    """Create the accounts, several at once. Raises click.ClickException when some could not be created.

    `bad` has the invalid lines: the output lists them together with those that the server refuses.
    """
    outcome, queue = _Outcome(failed=dict(bad)), iter(lines)
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
        say(f"{outcome.created} accounts created, {outcome.present} existed, {len(outcome.failed)} failed.")
    if outcome.failed:
        raise click.ClickException(f"{len(outcome.failed)} of {len(lines) + len(bad)} lines failed, as listed above")


async def _make(calls: Calls, line: Line, outcome: _Outcome) -> None:
    try:
        await calls.execute(methods.CREATE_ACCOUNT, line.request(), independent=True)
    except errors.AddressExists:
        outcome.present += 1
    except errors.RestanteError as error:
        if not error.caused_by_client or isinstance(error, errors.PermissionDenied | errors.InvalidSession):
            raise  # the next line would fail in the same way
        outcome.failed[line.number] = f"{line.address}: {described(error)}"
    else:
        outcome.created += 1
