"""A check of references in prose (comments, docstrings, pages): the dangling ones, each with its reason."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from posixpath import normpath

DESIGN = "docs/design.md"
OURS = ("restante_server", "restante_gateways", "restante_mail", "restante_process", "restante_cli")

LEFT_OUT = re.compile(
    r"(^|/)(LICENSE|package-lock\.json|keywords\.py)$"
    r"|^clients/(go/restante/v1|typescript/src/gen|python/restante/v1)/"
    r"|^requirements/|^tests/contract/test_references\.py$"
)
"""Files that are not checked: generated or foreign ones, lists of words, and the examples in this check's test."""

SLASHED = (".proto", ".go", ".java", ".kt", ".rs", ".ts", ".mts", ".cc", ".h", ".php", ".rb")
HASHED = (".txt", ".toml", ".yaml", ".sh", ".conf", ".in", ".mako", ".service", ".socket")
PYTHON_COMMENT = re.compile(r"(?:^|\s)#:?(.*)")
SLASHED_COMMENT = re.compile(r"(?:^\s*\*|//+|/\*+)(.*)")
HASHED_COMMENT = re.compile(r"#(.*)")
NAMES_FILES = (".py", ".md", ".proto", ".txt")  # whose prose names files of this repository

ELSEWHERE = re.compile(r"\b(behaviou?r|promise|finding|issue|fault)s? \d+|\b(DESIGN|STYLE)\b")
SECTION = re.compile(r"\bsections? \d")
CITED = re.compile(r'docs/design\.md((?:,? (?:and )?"[^"]+")+)')
FILE = re.compile(r"(?<![\w/.:@<*-])((?:[\w.-]+/)*[\w-]+\.(?:py|md|proto|txt|toml|sh))(?![\w/*])")
MODULE = re.compile(rf"\b(?:{'|'.join(OURS)})(?:\.[A-Za-z_]\w*)+")
ROOM = re.compile(r"`([a-z_]+(?:/[a-z_]+)+)/?`")
LINK = re.compile(r"\[[^\]\[]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
ANCHOR = re.compile(r'\b(?:id|name)="([^"]+)"')

SHORT = re.compile(r"(?<![\w./])[a-z_]+\.[a-z_]+\.[A-Za-z_]+(?![\w/])")  # `store.runs.JsonRows`

NOT_OURS = frozenset({"restante.toml", "hello.txt", "suite.py", "descriptor.proto", "error_details.proto"})
"""Names of files outside the repository: in an installation, at a reader or in another project."""


@dataclass(frozen=True)
class Tree:
    """The files of the repository, with their texts read at first use."""

    root: Path
    files: frozenset[str]
    texts: Mapping[str, str] = field(default_factory=dict)  # replacements of texts on disk

    @classmethod
    def of(cls, root: Path) -> Tree:
        """All files that git tracks or would add."""
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
        return cls(root, frozenset(name for name in listed if (root / name).is_file()))

    def text(self, name: str) -> str:
        """The text of a file. Raises UnicodeDecodeError when it is not text."""
        return self.texts[name] if name in self.texts else (self.root / name).read_text()

    @cached_property
    def endings(self) -> frozenset[str]:
        """All names of files and folders by the last parts of their paths, with the suffix and without."""
        return self._endings(self.files)

    @cached_property
    def endings_of_code(self) -> frozenset[str]:
        """The names as in `endings`, without those of the pages below docs/, which are also names of folders."""
        return self._endings(name for name in self.files if not name.startswith("docs/"))

    @staticmethod
    def _endings(names: Iterable[str]) -> frozenset[str]:
        found = set()
        for name in names:
            path = PurePosixPath(name)
            for whole in (path, path.with_suffix(""), *list(path.parents)[:-1]):
                found |= {"/".join(whole.parts[at:]) for at in range(len(whole.parts))}
        return frozenset(found)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Every folder, by its path."""
        return frozenset(str(folder) for name in self.files for folder in PurePosixPath(name).parents)

    @cached_property
    def rooms(self) -> frozenset[str]:
        """Every folder, by the last part of its path."""
        return frozenset(PurePosixPath(folder).name for folder in self.folders)

    @cached_property
    def sections(self) -> frozenset[str]:
        """The named sections of the design."""
        return frozenset(HEADING.findall(self.text(DESIGN)))

    @cached_property
    def packages(self) -> frozenset[str]:
        """Names of packages below the top level."""
        return frozenset(name.split(".")[-2] for name in self.modules if name.count(".") > 1)

    @cached_property
    def modules(self) -> dict[str, str]:
        """{dotted name: file} of all modules of the repository's packages."""
        found = {}
        for name in self.files:
            parts = PurePosixPath(name).with_suffix("").parts
            start = next((at for at, part in enumerate(parts) if part in OURS), None)
            if name.endswith(".py") and start is not None:
                found[".".join(parts[start:]).removesuffix(".__init__")] = name
        return found


def complaints(tree: Tree, names: Iterable[str] | None = None) -> Iterator[str]:
    """The dangling references, as `file: reason`."""
    for name in sorted(tree.files if names is None else names):
        if LEFT_OUT.search(name):
            continue
        try:
            text = tree.text(name)
        except UnicodeDecodeError:
            continue
        found = [wrong for block in prose(name, text) for wrong in _in_prose(tree, name, block)]
        if name.endswith(".md"):
            found += _links(tree, name, text)
        yield from (f"{name}: {wrong}" for wrong in found)


def prose(name: str, text: str) -> list[str]:
    """The prose of a file: adjacent comments as one text, docstrings, or the whole page."""
    suffix = PurePosixPath(name).suffix
    if suffix == ".md":
        return _even(re.split(r"\n\s*\n", text))
    if suffix == ".py":
        return _even([*_comments(text, PYTHON_COMMENT), *_strings(ast.parse(text).body)])
    if suffix in SLASHED:
        return _even(_comments(text, SLASHED_COMMENT))
    if suffix in HASHED or PurePosixPath(name).name in ("Makefile", "run"):
        return _even(_comments(text, HASHED_COMMENT))
    return []


def _even(texts: Iterable[str]) -> list[str]:
    return [" ".join(text.split()) for text in texts]


def _comments(text: str, comment: re.Pattern[str]) -> Iterator[str]:
    block: list[str] = []
    for line in text.splitlines():
        found = comment.search(line)
        if found is not None:
            block.append(found[1])
        elif block:
            yield "\n".join(block)
            block = []
    yield "\n".join(block)


def _strings(statements: Iterable[ast.AST]) -> Iterator[str]:
    """Strings that are statements: docstrings of modules, classes, functions and values."""
    for node in statements:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(node, part, None)
            if isinstance(below, list):
                yield from _strings(below)


def _in_prose(tree: Tree, name: str, text: str) -> Iterator[str]:
    for match in ELSEWHERE.finditer(text):
        yield f"“{match[0]}” stands in no text of this repository"
    for match in SECTION.finditer(text):
        if "RFC " not in text[max(0, match.start() - 120) : match.end() + 40]:
            yield f"“{match[0]}” of which RFC?"
    for match in CITED.finditer(text):
        for section in re.findall(r'"([^"]+)"', match[1]):
            if section not in tree.sections:
                yield f"{DESIGN} has no section “{section}”"
    for match in MODULE.finditer(text):
        if not _is_there(tree, match[0]):
            yield f"there is no {match[0]}"
    for match in SHORT.finditer(text):
        if (
            match[0].partition(".")[0] in tree.packages
            and ".example." not in match[0]
            and not _is_there_by_its_end(tree, match[0])
        ):
            yield f"there is no {match[0]}"
    if PurePosixPath(name).suffix in NAMES_FILES:
        for match in FILE.finditer(text):
            if PurePosixPath(match[1]).name not in NOT_OURS and not _is_file(tree, name, match[1]):
                yield f"there is no file {match[1]}"
    if name.endswith(".md"):
        for match in ROOM.finditer(text):
            if match[1].partition("/")[0] in tree.rooms and match[1] not in tree.endings_of_code | tree.folders:
                yield f"there is no {match[1]}"


def _is_file(tree: Tree, name: str, target: str) -> bool:
    target = re.sub(r"^[A-Z]+/", "", target)  # RESTANTE/clients/...: wherever the tree lies
    return target in tree.endings or normpath(f"{PurePosixPath(name).parent}/{target}") in tree.files


def _is_there(tree: Tree, dotted: str) -> bool:
    """Whether a dotted name is a module of the repository or a member of one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in tree.modules:
            rest = parts[length:]
            return not rest or re.search(rf"\b{rest[0]}\b", tree.text(tree.modules[module])) is not None
    return False


def _is_there_by_its_end(tree: Tree, dotted: str) -> bool:
    """Whether a dotted name without its first packages is such a module or member."""
    room = dotted.partition(".")[0]
    starts = {module.partition(f".{room}")[0] for module in tree.modules if f".{room}." in f"{module}."}
    return any(_is_there(tree, f"{start}.{dotted}") for start in starts)


def _links(tree: Tree, name: str, text: str) -> Iterator[str]:
    """Links of a page to a missing file or anchor."""
    for target in LINK.findall(text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = normpath(f"{PurePosixPath(name).parent}/{path}") if path else name
        if there not in tree.files and there not in tree.folders:
            yield f"the link {target} leads to no file"
        elif anchor and anchor not in anchors(tree.text(there)):
            yield f"the link {target} leads to no heading"


def anchors(page: str) -> set[str]:
    """The anchors of a page: ids, and headings in GitHub's spelling."""
    spelled = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(page)}
    return spelled | set(ANCHOR.findall(page))
