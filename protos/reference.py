"""Writes the reference documentation of the contract, docs/api/*.md, from the comments of the protos.

    python -m protos.reference              write docs/api/
    python -m protos.reference --check      compare with what is checked in; exit 1 when stale

One page for each proto: its service with every RPC, its messages and enums. The reasons of errors.proto are a table of
their own, and wherever a comment names one, it is a link. Beside the errors that an RPC's comment names stand those
that come with fields of its request, such as a page_token: they are the same everywhere.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

from protos.generate import PACKAGE, PROTOS, ROOT, GenerationFailed, write_image

OUTPUT = ROOT / "docs/api"
HEAD = "<!-- Written by protos/reference.py (`make docs`) from protos/restante/v1: never edited. -->\n\n"
PREFIX = ".restante.v1."
REASON_PREFIX = "ERROR_REASON_"

COMES_WITH = {
    "mailbox_id": ("MAILBOX_NOT_FOUND",),
    "min_commit": ("EPOCH_CHANGED", "COMMIT_NOT_REACHED"),
    "page_token": ("INVALID_PAGE_TOKEN",),
    "request_id": ("REQUEST_ID_REQUIRED", "REQUEST_ID_REUSED"),
}
"""{field of a request: reasons that it brings}. Where an RPC's comment names one, it is not said twice."""

ANYWHERE = (
    "INVALID_SESSION",
    "SESSION_EXPIRED",
    "SESSION_REVOKED",
    "PERMISSION_DENIED",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "DRAINING",
    "STORE_BUSY",
    "INTERNAL",
)
"""Reasons that any RPC may answer with, which comments therefore leave out."""

Path_ = tuple[int, ...]
_KINDS = {
    getattr(FieldDescriptorProto, f"TYPE_{name.upper()}"): name
    for name in "double float int64 uint64 int32 fixed64 fixed32 bool string bytes uint32 sfixed32 sfixed64 sint32 "
    "sint64".split()
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One ErrorReason, as its comment has it."""

    name: str
    number: int
    code: str
    keys: str
    text: str
    by_clients: bool


class Contract:
    """The protos with their comments."""

    def __init__(self, files: Sequence[FileDescriptorProto]) -> None:
        self.files = [file for file in files if file.name.startswith(PACKAGE.as_posix())]
        self.page_of = {message.name: stem(file) for file in self.files for message in file.message_type}
        self.page_of |= {enum.name: stem(file) for file in self.files for enum in file.enum_type}
        self.operations = {
            field.type_name.removeprefix(PREFIX)
            for file in self.files
            for message in file.message_type
            if message.name == "Operation"
            for field in message.field
        }
        self.reasons = {reason.name: reason for file in self.files for reason in _reasons(file)}
        self._links = re.compile(rf"(?<![\w`/])({'|'.join(sorted(self.reasons, key=len, reverse=True))})(?![\w`])")

    def prose(self, text: str) -> str:
        """A comment, with its reasons as links."""
        return self._links.sub(r"[\1](errors.md#\1)", text)

    def cell(self, text: str) -> str:
        """The same for a cell of a table."""
        return self.prose(text).replace("|", "\\|")

    def type_link(self, name: str, page: str) -> str:
        """A type by its full name, seen from a page."""
        short = name.removeprefix(PREFIX)
        if short not in self.page_of:
            return f"`{name.removeprefix('.')}`"
        target = self.page_of[short]
        return f"[{short}]({'' if target == page else f'{target}.md'}#{short})"


def stem(file: FileDescriptorProto) -> str:
    """The name of a proto's page, without `.md`."""
    return Path(file.name).stem


def comments(file: FileDescriptorProto) -> dict[Path_, str]:
    """{path: comment}, each in one line for each paragraph."""
    found = {}
    for location in file.source_code_info.location:
        text = location.leading_comments or location.trailing_comments
        paragraphs = re.split(r"\n\s*\n", text.strip())
        found[tuple(location.path)] = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return found


def sentence(text: str) -> str:
    """The first sentence of a comment, up to its colon where it has one."""
    return re.split(r"(?<=\w[.:])\s|(?<=\)[.:])\s", text)[0].rstrip(".:") + "."


def _reasons(file: FileDescriptorProto) -> Iterator[Reason]:
    said = comments(file)
    for index, enum in enumerate(file.enum_type):
        if enum.name != "ErrorReason":
            continue
        for number, value in enumerate(enum.value):
            head = re.match(r"([A-Z_]+)(?: \{([a-z_, ]+)\})?\. (.*)", said[5, index, 2, number])
            if head is not None:
                name, by_clients = value.name.removeprefix(REASON_PREFIX), head[3].endswith("Caused by clients.")
                text = head[3].removesuffix("Caused by clients.").strip()
                yield Reason(name, value.number, head[1], head[2] or "", text, by_clients)


# --- Pages ------------------------------------------------------------------------------------------------------------


def page(contract: Contract, file: FileDescriptorProto) -> str:
    """The page of one proto."""
    if stem(file) == "errors":
        return _errors_page(contract, file)
    said = comments(file)
    title = file.service[0].name if file.service else f"{stem(file).capitalize()}"
    lines = [f"# {title}", "", contract.prose(_opening(said)), ""]
    for index, service in enumerate(file.service):
        lines += [contract.prose(said[6, index]), "", "| RPC | |", "|---|---|"]
        for number, method in enumerate(service.method):
            lines.append(f"| [{method.name}](#{method.name}) | {contract.cell(sentence(said[6, index, 2, number]))} |")
        lines += ["", "## RPCs", ""]
        for number, method in enumerate(service.method):
            lines += _method(contract, file, method, said[6, index, 2, number])
    if file.message_type:
        lines += ["## Messages", ""]
    for index, message in enumerate(file.message_type):
        lines += _message(contract, stem(file), message, said, (4, index))
    if file.enum_type:
        lines += ["## Enums", ""]
    for index, enum in enumerate(file.enum_type):
        lines += _enum(contract, enum, said, (5, index))
    return HEAD + "\n".join(lines).rstrip() + "\n"


def _opening(said: dict[Path_, str]) -> str:
    """The proto's first line says what it is about; it stands above the syntax."""
    return said.get((12,), "")


def _method(contract: Contract, file: FileDescriptorProto, method: MethodDescriptorProto, said: str) -> list[str]:
    request = method.input_type.removeprefix(PREFIX)
    sends = "stream of " if method.client_streaming else ""
    gives = "stream of " if method.server_streaming else ""
    lines = [f'### <a id="{method.name}"></a>{method.name}', ""]
    asks, answers = (contract.type_link(name, stem(file)) for name in (method.input_type, method.output_type))
    lines += [f"{sends}{asks} → {gives}{answers}", "", contract.prose(said), ""]
    home = next(other for other in contract.files if any(m.name == request for m in other.message_type))
    fields = next({field.name for field in m.field} for m in home.message_type if m.name == request)
    brought = [reason for field in COMES_WITH if field in fields for reason in COMES_WITH[field]]
    if not _requires_id(home, request):
        brought = [reason for reason in brought if reason != "REQUEST_ID_REQUIRED"]
    brought = [reason for reason in brought if not re.search(rf"\b{reason}\b", said)]
    if brought:
        lines += [f"With its fields come: {contract.prose(', '.join(brought))}.", ""]
    if request in contract.operations:
        lines += ["Can be an operation of a batch ([Execute](batch.md#Execute)).", ""]
    return lines


def _requires_id(file: FileDescriptorProto, request: str) -> bool:
    said = comments(file)
    for index, message in enumerate(file.message_type):
        for number, field in enumerate(message.field):
            if message.name == request and field.name == "request_id":
                return said[4, index, 2, number].startswith("Required")
    return False


def _message(
    contract: Contract, page_name: str, message: DescriptorProto, said: dict[Path_, str], path: Path_
) -> list[str]:
    lines = [f'### <a id="{message.name}"></a>{message.name}', "", contract.prose(said[path]), ""]
    if not message.field:
        return [*lines, "No fields.", ""]
    lines += ["| | field | type | |", "|---|---|---|---|"]
    for index, field in enumerate(message.field):
        text = contract.cell(said.get((*path, 2, index), ""))
        if field.HasField("oneof_index") and not field.proto3_optional:
            name = message.oneof_decl[field.oneof_index].name
            text = f"*One of `{name}`.* {text}"
        lines.append(f"| {field.number} | `{field.name}` | {_kind(contract, page_name, field)} | {text} |")
    return [*lines, ""]


def _kind(contract: Contract, page_name: str, field: FieldDescriptorProto) -> str:
    name = _KINDS[field.type] if field.type in _KINDS else contract.type_link(field.type_name, page_name)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def _enum(contract: Contract, enum: EnumDescriptorProto, said: dict[Path_, str], path: Path_) -> list[str]:
    lines = [f'### <a id="{enum.name}"></a>{enum.name}', "", contract.prose(said[path]), ""]
    lines += ["| | value | |", "|---|---|---|"]
    for index, value in enumerate(enum.value):
        lines.append(f"| {value.number} | `{value.name}` | {contract.cell(said[(*path, 2, index)])} |")
    return [*lines, ""]


def _errors_page(contract: Contract, file: FileDescriptorProto) -> str:
    said = comments(file)
    lines = ["# Errors", "", _opening(said), "", '<a id="ErrorReason"></a>' + said[5, 0], ""]
    anywhere = contract.prose(", ".join(ANYWHERE))
    lines += [f"Any RPC may answer with {anywhere}; one that needs no session, with no error of a session.", ""]
    lines += ["| reason | status | metadata | caused by clients | |", "|---|---|---|---|---|"]
    for reason in contract.reasons.values():
        keys = ", ".join(f"`{key.strip()}`" for key in reason.keys.split(",")) if reason.keys else ""
        mark = "yes" if reason.by_clients else ""
        name = f'<a id="{reason.name}"></a>`{reason.name}`'
        lines.append(f"| {name} | {reason.code} | {keys} | {mark} | {reason.text.replace('|', chr(92) + '|')} |")
    return HEAD + "\n".join(lines) + "\n"


def index(contract: Contract) -> str:
    """The page that leads to all of them."""
    lines = ["# Reference of the API", ""]
    lines += ["How to call it, and what holds everywhere, is in [The API](../README.md).", ""]
    lines += ["| | | RPCs |", "|---|---|---|"]
    for file in sorted(contract.files, key=lambda file: (not file.service, file.name)):
        said, name = comments(file), stem(file)
        title = file.service[0].name if file.service else name.capitalize()
        rpcs = ", ".join(
            f"[{method.name}]({name}.md#{method.name})" for service in file.service for method in service.method
        )
        lines.append(f"| [{title}]({name}.md) | {_opening(said)} | {rpcs} |")
    return HEAD + "\n".join(lines) + "\n"


def pages(protos: Path = PROTOS) -> dict[str, str]:
    """{name of the file: its text}. Raises GenerationFailed."""
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.binpb"
        write_image(image, protos)
        contract = Contract(FileDescriptorSet.FromString(image.read_bytes()).file)
    return {"README.md": index(contract)} | {f"{stem(file)}.md": page(contract, file) for file in contract.files}


def stale(output: Path = OUTPUT, protos: Path = PROTOS) -> list[str]:
    """Names of pages that differ from what the protos give now, are missing, or are too many."""
    wanted = pages(protos)
    found = {path.name: path.read_text(encoding="utf-8") for path in output.glob("*.md")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the reference documentation of the contract.")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when something is stale")
    arguments = parser.parse_args()
    try:
        if arguments.check:
            if found := stale():
                print("stale, run `make docs`: " + ", ".join(found), file=sys.stderr)
                return 1
            return 0
        OUTPUT.mkdir(parents=True, exist_ok=True)
        written = pages()
    except GenerationFailed as error:
        print(error, file=sys.stderr)
        return 1
    for old in OUTPUT.glob("*.md"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (OUTPUT / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
