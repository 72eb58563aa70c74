"""The published ARC test vectors (shared/vectors/arc beside the repository)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.harness.memory_dns import MemoryDns
from tests.mail.authentication.dkim.answers import txt_records

FOLDER = Path(__file__).parents[4] / ".." / "shared" / "vectors" / "arc"


@dataclass(frozen=True)
class Case:
    """One case with its message (CRLF line ends), the other keys of the case, and those of its scenario."""

    name: str
    content: bytes
    values: dict[str, Any]
    scenario: dict[str, Any]

    @property
    def dns(self) -> MemoryDns:
        records = self.scenario["txt-records"] or {}
        return txt_records({name: text.replace("\n", "") for name, text in records.items()})


@cache
def cases(file: str) -> list[Case]:
    """The cases of a file, in order; [] where the folder is absent."""
    path = FOLDER / file
    if not path.exists():
        return []
    return [
        Case(name, values["message"].replace("\n", "\r\n").encode(), values, scenario)
        for scenario in yaml.safe_load_all(path.read_text())
        for name, values in scenario["tests"].items()
    ]
