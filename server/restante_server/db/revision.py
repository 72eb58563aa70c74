"""Writes the next migration step from the difference between `schema` and the steps there are.

    python -m restante_server.db.revision "what it adds"
    python -m restante_server.db.revision --first          until the first release: makes step 0001 anew

Review the written step, because the tool cannot know the meaning of a change. A step may only add (a table, a column
with a default or without NOT NULL, an index). A backfill is a separate job, never part of a step.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic import command

from restante_server.db.engine import open_backend
from restante_server.db.migrate import config

VERSIONS = Path(__file__).parent / "migrations" / "versions"
FIRST = "0001"


def write_step(message: str, number: str) -> None:
    """Write step `number` (four digits) with the parts of `schema` that the steps before it do not make."""
    with tempfile.TemporaryDirectory() as folder:
        backend = open_backend(f"sqlite:///{folder}/trial.db")
        with backend.writer() as tx, tx.begin():
            command.upgrade(config(tx), "head")
            command.revision(config(tx), message, autogenerate=True, rev_id=number)
        backend.close()
    (written,) = VERSIONS.glob(f"{number}_*.py")
    lines = written.read_text().splitlines(keepends=True)
    written.write_text("".join(line for line in lines if not line.lstrip().startswith("# ###")))  # Alembic's remarks
    for step in (["format"], ["check", "--fix"]):
        subprocess.run([sys.executable, "-m", "ruff", *step, "--quiet", str(written)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("message", nargs="?", default="The schema of the first release")
    parser.add_argument("--first", action="store_true", help="make step 0001 anew")
    given = parser.parse_args()
    steps = sorted(VERSIONS.glob("[0-9]*.py"))
    if given.first:
        if len(steps) > 1:
            parser.error("there are later steps: 0001 is settled")
        for step in steps:
            step.unlink()
        steps = []
    write_step(given.message, f"{len(steps) + 1:04d}")


if __name__ == "__main__":
    main()
