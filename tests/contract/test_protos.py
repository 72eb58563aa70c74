"""The rules of the contract (protos/README.md) that keep it comfortable in every language.

Each rule is a function from one compiled file to its findings. The tests apply it to protos/restante/v1, and to a small
proto that breaks it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FieldOptions,
    FileDescriptorProto,
    FileDescriptorSet,
)

from protos.generate import PACKAGE, PROTOS, sources, write_image
from tests.contract.keywords import KEYWORDS, reserved

Field = FieldDescriptorProto
Rule = Callable[[FileDescriptorProto], Iterator[str]]

UNSIGNED = {Field.TYPE_UINT32, Field.TYPE_UINT64, Field.TYPE_FIXED32, Field.TYPE_FIXED64}
WIDE = {Field.TYPE_INT64, Field.TYPE_SINT64, Field.TYPE_SFIXED64, Field.TYPE_UINT64, Field.TYPE_FIXED64}
FILE_OPTIONS = [
    "go_package",
    "java_package",
    "java_multiple_files",
    "java_outer_classname",
    "csharp_namespace",
    "php_namespace",
    "ruby_package",
    "objc_class_prefix",
]


def messages(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """(name below the package, message) of all messages, including nested ones and map entries."""

    def below(prefix: str, found: DescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
        name = f"{prefix}{found.name}"
        yield name, found
        for nested in found.nested_type:
            yield from below(f"{name}.", nested)

    for message in file.message_type:
        yield from below("", message)


def enums(file: FileDescriptorProto) -> Iterator[tuple[str, EnumDescriptorProto]]:
    yield from ((enum.name, enum) for enum in file.enum_type)
    for name, message in messages(file):
        yield from ((f"{name}.{enum.name}", enum) for enum in message.enum_type)


def fields(file: FileDescriptorProto) -> Iterator[tuple[str, FieldDescriptorProto]]:
    """(message.field, field) of all fields but those of map entries."""
    for name, message in messages(file):
        if not message.options.map_entry:
            yield from ((f"{name}.{field.name}", field) for field in message.field)


def pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def camel(name: str) -> str:
    return name[:1].lower() + (pascal(name)[1:] if "_" in name else name[1:])


def services_are_named(file: FileDescriptorProto) -> Iterator[str]:
    yield from (service.name for service in file.service if not service.name.endswith("Service"))


def each_rpc_has_its_own_request_and_response(file: FileDescriptorProto) -> Iterator[str]:
    for service in file.service:
        for rpc in service.method:
            wanted = (f".{file.package}.{rpc.name}Request", f".{file.package}.{rpc.name}Response")
            if (rpc.input_type, rpc.output_type) != wanted:
                yield f"{service.name}.{rpc.name}"


def integers_are_signed(file: FileDescriptorProto) -> Iterator[str]:
    for name, message in messages(file):
        yield from (f"{name}.{field.name}" for field in message.field if field.type in UNSIGNED)


def wide_integers_are_strings_in_javascript(file: FileDescriptorProto) -> Iterator[str]:
    for name, field in fields(file):
        single = field.label != Field.LABEL_REPEATED
        if single and field.type in WIDE and field.options.jstype != FieldOptions.JS_STRING:
            yield name


def no_map_has_a_wide_integer(file: FileDescriptorProto) -> Iterator[str]:
    for name, message in messages(file):
        if message.options.map_entry and any(field.type in WIDE for field in message.field):
            yield name


def no_name_is_a_keyword(file: FileDescriptorProto) -> Iterator[str]:
    """PHP ignores the letter case of class names; Rust removes an enum value's prefix, which may leave `Self`."""
    names: list[tuple[str, list[str], frozenset[str]]] = []
    names += [(name, [message.name], frozenset({"php"})) for name, message in messages(file)]
    names += [(name, [enum.name], frozenset({"php"})) for name, enum in enums(file)]
    names += [(name, [field.name, camel(field.name)], frozenset()) for name, field in fields(file)]
    for service in file.service:
        names += [(f"{service.name}.{rpc.name}", [rpc.name, camel(rpc.name)], frozenset()) for rpc in service.method]
    for name, enum in enums(file):
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
        names += [(f"{name}.{value.name}", [value.name], frozenset()) for value in enum.value]
        short = {value.name: pascal(value.name.removeprefix(prefix)) for value in enum.value}
        yield from (f"{name}.{value} (rust)" for value, spelling in short.items() if spelling in KEYWORDS["rust"])
    for where, spellings, any_case in names:
        languages = {language for spelling in spellings for language in reserved(spelling, any_case_in=any_case)}
        if languages:
            yield f"{where} ({', '.join(sorted(languages))})"


def enum_zero_is_unspecified(file: FileDescriptorProto) -> Iterator[str]:
    for name, enum in enums(file):
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper()
        if enum.value[0].number != 0 or enum.value[0].name != f"{prefix}_UNSPECIFIED":
            yield name


def each_file_names_its_packages(file: FileDescriptorProto) -> Iterator[str]:
    yield from (option for option in FILE_OPTIONS if not file.options.HasField(option))  # type: ignore[arg-type]


def lists_page(file: FileDescriptorProto) -> Iterator[str]:
    """Unary `List...` RPCs page, and so do the messages of `List...` RPCs in a file without a service."""
    shapes = {message.name: {field.name: field.type for field in message.field} for message in file.message_type}
    lists = [
        (f"{service.name}.{rpc.name}", rpc.name)
        for service in file.service
        for rpc in service.method
        if rpc.name.startswith("List") and not rpc.server_streaming and f"{rpc.name}Request" in shapes
    ]
    if not file.service:
        named = [name.removesuffix("Request") for name in shapes if re.fullmatch(r"List\w+Request", name)]
        lists = [(name, name) for name in named]
    for shown, name in lists:
        asked, given = shapes.get(f"{name}Request", {}), shapes.get(f"{name}Response", {})
        paged = asked.get("page_size") == Field.TYPE_INT32 and asked.get("page_token") == Field.TYPE_STRING
        if not paged or given.get("next_page_token") != Field.TYPE_STRING:
            yield shown


TARGETS = {"mailbox_id", "folder_id", "name", "address"}
"""Fields that name the object of an update."""


def updates_change_what_they_have(file: FileDescriptorProto) -> Iterator[str]:
    """Each setting in the request of an `Update...` RPC may be absent, unless a field `operation` says what to do."""
    shapes = dict(messages(file))
    for service in file.service:
        for rpc in service.method:
            fields_of = shapes[f"{rpc.name}Request"].field if rpc.name.startswith("Update") else []
            if all(field.name != "operation" for field in fields_of):
                settings = (field for field in fields_of if field.name not in TARGETS)
                yield from (f"{rpc.name}Request.{field.name}" for field in settings if not field.proto3_optional)


def everything_has_a_comment(file: FileDescriptorProto) -> Iterator[str]:
    """The numbers in a path are field numbers of FileDescriptorProto and of its members (descriptor.proto)."""
    commented = {
        tuple(location.path)
        for location in file.source_code_info.location
        if location.leading_comments.strip() or location.trailing_comments.strip()
    }

    def enum(path: tuple[int, ...], name: str, found: EnumDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield name, path
        yield from ((f"{name}.{value.name}", (*path, 2, index)) for index, value in enumerate(found.value))

    def message(path: tuple[int, ...], name: str, found: DescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
        if found.options.map_entry:
            return
        yield name, path
        yield from ((f"{name}.{field.name}", (*path, 2, index)) for index, field in enumerate(found.field))
        for index, nested in enumerate(found.nested_type):
            yield from message((*path, 3, index), f"{name}.{nested.name}", nested)
        for index, kind in enumerate(found.enum_type):
            yield from enum((*path, 4, index), f"{name}.{kind.name}", kind)

    def all_of_it() -> Iterator[tuple[str, tuple[int, ...]]]:
        for index, found in enumerate(file.message_type):
            yield from message((4, index), found.name, found)
        for index, kind in enumerate(file.enum_type):
            yield from enum((5, index), kind.name, kind)
        for index, service in enumerate(file.service):
            yield service.name, (6, index)
            yield from ((f"{service.name}.{rpc.name}", (6, index, 2, n)) for n, rpc in enumerate(service.method))

    yield from (name for name, path in all_of_it() if path not in commented)


RULES: dict[Rule, tuple[str, list[str]]] = {
    services_are_named: ("service Folders {}", ["Folders"]),
    each_rpc_has_its_own_request_and_response: (
        (
            "message GetFolderRequest {} message Folder {}"
            "service FolderService { rpc GetFolder(GetFolderRequest) returns (stream Folder); }"
        ),
        ["FolderService.GetFolder"],
    ),
    integers_are_signed: (
        "message M { uint32 a = 1; message N { repeated fixed64 b = 1; } map<uint32, string> c = 2; sint64 d = 3; }",
        ["M.a", "M.N.b", "M.CEntry.key"],
    ),
    wide_integers_are_strings_in_javascript: (
        "message M { int64 a = 1; optional sfixed64 b = 2; repeated int64 c = 3; int64 d = 4 [jstype = JS_STRING]; }",
        ["M.a", "M.b"],
    ),
    no_map_has_a_wide_integer: (
        "message M { map<int64, string> a = 1; map<string, int64> b = 2; map<int32, string> c = 3; }",
        ["M.AEntry", "M.BEntry"],
    ),
    no_name_is_a_keyword: (
        (
            "message List {} message M { string from = 1; string hash_code = 2; string to_string = 3; }"
            "enum Kind { KIND_UNSPECIFIED = 0; KIND_SELF = 1; NULL = 2; }"
            "service S { rpc Import(M) returns (M); rpc ImportMail(M) returns (M); }"
        ),
        [
            "Kind.KIND_SELF (rust)",
            "List (php)",
            "M.from (python)",
            "M.to_string (javascript)",
            "S.Import (go, java, javascript, python, swift)",
            "Kind.NULL (c++, objective-c)",
        ],
    ),
    enum_zero_is_unspecified: (
        "enum FolderRole { INBOX = 0; } message M { enum Kind { KIND_UNSPECIFIED = 0; } enum Sort { SORT_NONE = 0; } }",
        ["FolderRole", "M.Sort"],
    ),
    each_file_names_its_packages: (
        (
            'option go_package = "g"; option java_package = "j"; option java_multiple_files = true;'
            'option java_outer_classname = "J"; option csharp_namespace = "C"; option ruby_package = "R";'
        ),
        ["php_namespace", "objc_class_prefix"],
    ),
    lists_page: (
        (
            "message ListFoldersRequest { int32 page_size = 1; string page_token = 2; } message ListFoldersResponse {}"
            "message ListPeersRequest { int32 page_size = 1; string page_token = 2; }"
            "message ListPeersResponse { string next_page_token = 1; }"
            "service S { rpc ListFolders(ListFoldersRequest) returns (ListFoldersResponse);"
            " rpc ListPeers(ListPeersRequest) returns (ListPeersResponse); }"
        ),
        ["S.ListFolders"],
    ),
    updates_change_what_they_have: (
        (
            "message UpdateFolderRequest { int64 folder_id = 1; optional int32 role = 2; int32 colour = 3;"
            " repeated string path = 4; } message UpdateFolderResponse {}"
            "message UpdateMessagesRequest { int32 operation = 1; int32 flags = 2; } message UpdateMessagesResponse {}"
            "service S { rpc UpdateFolder(UpdateFolderRequest) returns (UpdateFolderResponse);"
            " rpc UpdateMessages(UpdateMessagesRequest) returns (UpdateMessagesResponse); }"
        ),
        ["UpdateFolderRequest.colour", "UpdateFolderRequest.path"],
    ),
    everything_has_a_comment: (
        (
            "// A.\nmessage M {\n int32 a = 1; // A.\n int32 b = 2;\n\n message N {}\n}\n"
            "enum E { // Behind.\n E_UNSPECIFIED = 0;\n}\n// S.\nservice S {\n rpc R(M) returns (M);\n}"
        ),
        ["M.b", "M.N", "E.E_UNSPECIFIED", "S.R"],
    ),
}
"""{rule: (a proto that breaks it, its exact findings)}"""


def compiled(protos: Path, scratch: Path) -> list[FileDescriptorProto]:
    write_image(scratch / "image.binpb", protos)
    image = FileDescriptorSet.FromString((scratch / "image.binpb").read_bytes())
    return [file for file in image.file if file.name.startswith(PACKAGE.as_posix())]


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    return compiled(PROTOS, tmp_path_factory.mktemp("image"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_contract_keeps(rule: Rule, contract: list[FileDescriptorProto]) -> None:
    assert len(contract) == len(sources()) > 0
    found = {file.name: list(rule(file)) for file in contract}
    assert {name: findings for name, findings in found.items() if findings} == {}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_finds(rule: Rule, tmp_path: Path) -> None:
    text, expected = RULES[rule]
    folder = tmp_path / "protos" / PACKAGE
    folder.mkdir(parents=True)
    (folder / "bad.proto").write_text(f'syntax = "proto3";\npackage restante.v1;\n{text}\n')
    (file,) = compiled(tmp_path / "protos", tmp_path)
    assert list(rule(file)) == expected


def test_all_of_the_contract_is_one_package_of_proto3(contract: list[FileDescriptorProto]) -> None:
    assert {(file.package, file.syntax) for file in contract} == {("restante.v1", "proto3")}
