"""Every key of the configuration with its default and documentation, read from `restante_process.config`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from restante_process import config


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """One key. `section` is empty for a top-level key; for a list of tables it is such as "tls.certificates[]"."""

    section: str
    name: str
    kind: str  # in words for people
    default: str  # as TOML; empty for a section; for a required key the first of its choices
    about: str

    @property
    def path(self) -> str:
        """The full name, as in errors and in --set."""
        return f"{self.section}.{self.name}" if self.section else self.name


def all_keys() -> Iterator[Key]:
    """All keys, in the order of the file."""
    yield from _of(config.Config, "", _comments())


def _comments() -> dict[tuple[str, str], str]:
    """{(class, field): the comment after the field}."""
    source = inspect.getsource(config)
    by_line = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for made in ast.parse(source).body:
        if isinstance(made, ast.ClassDef):
            for statement in made.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    found[made.name, statement.target.id] = by_line.get(statement.end_lineno or 0, "")
    return found


def _of(section_class: Any, section: str, comments: Mapping[tuple[str, str], str]) -> Iterator[Key]:
    hints, below = typing.get_type_hints(section_class), []
    for each in dataclasses.fields(section_class):
        hint, default = hints[each.name], _default(each)
        inner = _inner(hint)
        path = f"{section}.{each.name}" if section else each.name
        if dataclasses.is_dataclass(hint):
            below.append((hint, path))
            continue
        if inner is not None:
            mark = ".NAME" if typing.get_origin(hint) is Mapping else "[]"
            below.append((inner, path + mark))
            if not default:
                continue
        about = comments.get((_declared_in(section_class, each.name), each.name), "")
        if default is dataclasses.MISSING:
            choices = typing.get_args(hint)
            yield Key(section, each.name, f"{_kind(hint)}, required", toml(choices[0]), about)
        else:
            yield Key(section, each.name, _kind(hint), toml(default), about)
    for inner, path in below:
        yield from _of(inner, path, comments)


def _default(key: dataclasses.Field[Any]) -> Any:
    """The default of a key; MISSING for a required key."""
    return key.default if key.default_factory is dataclasses.MISSING else key.default_factory()


def _declared_in(section_class: type, name: str) -> str:
    """The class that declares a key: the section's class or one of its bases."""
    return next(base.__name__ for base in section_class.__mro__ if name in base.__annotations__)


def _inner(hint: Any) -> Any:
    """The section class inside the type of a list or table."""
    arguments = [each for each in typing.get_args(hint) if dataclasses.is_dataclass(each)]
    return arguments[0] if arguments else None


def _kind(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return " | ".join(json.dumps(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "list of strings"
    if typing.get_origin(hint) is Mapping:
        return "table"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}.get(hint, "table")


def toml(value: Any) -> str:
    """A value in TOML, on one line."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value))
        return "{ " + ", ".join(f"{name} = {toml(item)}" for name, item in pairs) + " }"
    if isinstance(value, dict | types.MappingProxyType):
        return "{ " + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + " }" if value else "{}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False)


def document() -> Iterator[str]:
    """The lines of a configuration file with every key, commented out."""
    section = ""
    for key in all_keys():
        if key.section != section:
            section = key.section
            yield ""
            if section.endswith("[]"):
                yield f"# [[{section.removesuffix('[]')}]]"
            elif section.endswith(".NAME"):
                yield f"# [{section}]  # each one has a name of its own"
            else:
                yield f"[{section}]"
        about = f"{key.about} ({key.kind})" if key.about else f"({key.kind})"
        yield f"# {about}"
        yield f"# {key.name} = {key.default}"
