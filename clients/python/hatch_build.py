"""Puts the mail library into the wheel: from the source tree, or from beside this file in a source distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class MailLibrary(BuildHookInterface):  # type: ignore[type-arg]
    """Found by hatchling, since it is the one hook in this file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` is "editable" where its folders are only pointed to."""
        if version == "editable":
            return
        beside = Path(self.root) / "restante_mail"
        source = beside if beside.is_dir() else Path(self.root).parents[1] / "common" / "restante_mail"
        build_data["force_include"][str(source)] = "restante_mail"
