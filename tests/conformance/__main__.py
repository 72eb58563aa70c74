"""`python -m tests.conformance`: every SDK plays the scenario; one table, language by step.

Exits with 0 when every step has passed in every language whose toolchain is installed. With RESTANTE_NO_SKIP=1 a
missing toolchain is a failure.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conformance.judge import Outcome, play
from tests.conformance.languages import Language, RunnerFailed, languages
from tests.conformance.scenario import Step, chosen, load
from tests.conformance.table import table
from tests.conformance.values import ScenarioError
from tests.harness.requirements import no_skip


def _selected(wanted: str) -> list[Language]:
    found = languages()
    if not wanted:
        return found
    by_key = {language.key: language for language in found}
    names = wanted.split(",")
    if unknown := [name for name in names if name not in by_key]:
        raise ScenarioError(f"no clients/{unknown[0]}/conformance.json; there are {', '.join(by_key)}")
    return [by_key[name] for name in names]


def _played(language: Language, steps: Sequence[Step], *, verbose: bool, as_json: bool) -> dict[str, Outcome]:
    def tell(line: str) -> None:
        if verbose:
            print(line[:2_000], file=sys.stderr, flush=True)

    outcomes = {}
    with tempfile.TemporaryDirectory(prefix="restante-conformance-") as scratch:
        for outcome in play(language, steps, Path(scratch) / language.key, tell):
            outcomes[outcome.step] = outcome
            if as_json:
                line: dict[str, Any] = {"language": language.key, "step": outcome.step, "outcome": outcome.outcome}
                line |= {"detail": outcome.detail, "seconds": round(outcome.seconds, 3)}
                print(json.dumps(line, ensure_ascii=False), flush=True)
            else:
                detail = f": {outcome.detail}" if outcome.detail else ""
                print(f"{language.name}: {outcome.step}: {outcome.outcome}{detail}", file=sys.stderr, flush=True)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--languages", default="", help="such as python,go; default: all that are here")
    parser.add_argument("--steps", default="", help="such as watch,sync, with all that they need; default: all")
    parser.add_argument("--build", action="store_true", help="only build the runners")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each step instead of the table")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every command and answer")
    arguments = parser.parse_args()
    try:
        steps = chosen(load(), [name for name in arguments.steps.split(",") if name])
        selected = _selected(arguments.languages)
    except ScenarioError as problem:
        parser.error(str(problem))
    results: dict[str, dict[str, Outcome]] = {}
    failed = False
    for language in selected:
        if reason := language.missing():
            print(f"{language.name}: skipped, {reason}", file=sys.stderr)
            failed |= no_skip() or bool(arguments.languages)
            continue
        began = time.monotonic()
        try:
            language.made()
        except RunnerFailed as problem:
            print(f"{language.name}: the runner cannot be built: {problem}", file=sys.stderr)
            results[language.name], failed = {}, True
            continue
        if arguments.build:
            print(f"{language.name}: built in {time.monotonic() - began:.0f} s", file=sys.stderr)
            continue
        results[language.name] = _played(language, steps, verbose=arguments.verbose, as_json=arguments.json)
        failed |= any(outcome.outcome != "passed" for outcome in results[language.name].values())
        print(f"{language.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if arguments.build:
        return int(failed)
    if results and not arguments.json:
        print(table(results, steps))
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
