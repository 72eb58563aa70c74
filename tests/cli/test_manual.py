"""The manual page agrees with the help of the commands."""

from __future__ import annotations

from pathlib import Path

from restante_cli import manual

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_not_stale() -> None:
    assert (ROOT / "docs/restante.1").read_text(encoding="utf-8") == manual.page(), "run `make docs`"


def test_each_command_has_its_section_and_no_option_is_without_a_word() -> None:
    lines = manual.page().splitlines()
    sections = [line for line in lines if line.startswith(".SS ")]
    for command in ("mail send", "admin account create", "core", "gateway", "store migrate", "config", "init", "up"):
        assert any(line.startswith(f".SS restante {command} [OPTIONS]") for line in sections), command
    for number, line in enumerate(lines):
        if line == ".TP":
            assert lines[number + 2] and not lines[number + 2].startswith("."), lines[number + 1]


def test_roff_shows_text_as_it_is() -> None:
    assert manual.escaped(".hidden") == "\\&.hidden"
    assert manual.escaped("a\\b --c") == "a\\eb \\-\\-c"
