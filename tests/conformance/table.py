"""The table of the scenario's outcomes: language by step. *Pure.*"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.conformance.judge import Outcome
from tests.conformance.scenario import Step

MARKS = {"passed": "ok", "failed": "FAILED", "unsupported": "missing", "": "-"}


def table(results: Mapping[str, Mapping[str, Outcome]], steps: Sequence[Step]) -> str:
    """The table, with a row for each step and a column for each language."""
    width = max(len(step.title) for step in steps)
    columns = {name: max(len(name), 7) for name in results}
    lines = [" " * width + "".join(f"  {name:{size}}" for name, size in columns.items())]
    for step in steps:
        marks = (MARKS[outcomes[step.name].outcome if step.name in outcomes else ""] for outcomes in results.values())
        cells = "".join(f"  {mark:{size}}" for mark, size in zip(marks, columns.values(), strict=True))
        lines.append(f"{step.title:{width}}{cells}")
    totals = (
        f"{sum(one.outcome == 'passed' for one in outcomes.values())}/{len(steps)}" for outcomes in results.values()
    )
    lines.append(f"{'passed':{width}}" + "".join(f"  {t:{s}}" for t, s in zip(totals, columns.values(), strict=True)))
    return "\n".join(line.rstrip() for line in lines)
