"""The checked-in Python code of the contract equals a fresh generation from the protos."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from protos import generate


def test_the_generated_code_is_not_stale() -> None:
    assert generate.sources(), "there are no protos"
    assert generate.stale() == [], "run `make protos`"


PROTO = """
syntax = "proto3";
package restante.v1;
import "google/rpc/status.proto";
message Sample { google.rpc.Status status = 1; int64 size_octets = 2; }
"""


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    folder = tmp_path / "protos" / generate.PACKAGE
    folder.mkdir(parents=True)
    (folder / "sample.proto").write_text(PROTO)
    return tmp_path / "protos"


def test_fresh_output_is_not_stale_and_any_change_of_a_proto_is_seen(tmp_path: Path, protos: Path) -> None:
    output = tmp_path / "python"
    generate.write_modules(output, protos)
    assert generate.stale(output, protos) == []
    (protos / generate.PACKAGE / "sample.proto").write_text(PROTO.replace("size_octets", "total_octets"))
    assert generate.stale(output, protos) == ["sample_pb2.py", "sample_pb2.pyi"]


def test_a_module_whose_proto_is_gone_is_stale_and_is_removed(tmp_path: Path, protos: Path) -> None:
    output = tmp_path / "python"
    generate.write_modules(output, protos)
    folder = output / generate.PACKAGE
    shutil.copy(folder / "sample_pb2.py", folder / "former_pb2.py")
    assert generate.stale(output, protos) == ["former_pb2.py"]
    generate.write_modules(output, protos)
    assert not (folder / "former_pb2.py").exists()


def test_a_proto_that_does_not_compile_says_where(tmp_path: Path, protos: Path) -> None:
    (protos / generate.PACKAGE / "sample.proto").write_text(PROTO.replace("int64", "int65"))
    with pytest.raises(generate.GenerationFailed, match=r"sample\.proto:5:"):
        generate.write_modules(tmp_path / "python", protos)


def test_the_image_has_a_trailing_comment_where_a_leading_one_is_missing(tmp_path: Path, protos: Path) -> None:
    commented = PROTO.replace("message", "// Above.\nmessage").replace("= 2; }", "= 2;  // Behind.\n}")
    (protos / generate.PACKAGE / "sample.proto").write_text(commented)
    generate.write_image(tmp_path / "image.binpb", protos)
    image = FileDescriptorSet.FromString((tmp_path / "image.binpb").read_bytes())
    (file,) = [file for file in image.file if file.name.endswith("sample.proto")]
    comments = {location.leading_comments.strip() for location in file.source_code_info.location}
    assert comments == {"", "Above.", "Behind."}
