"""The generated code for C#, Kotlin, PHP and Ruby compiles, loads or parses without a warning."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from protos import others
from protos.generate import PROTOS, GenerationFailed, sources
from tests.harness.requirements import missing

HERE = Path(__file__).resolve().parent
PHP_LIBRARY = Path("/usr/share/php")
TEXT = "\n".join((PROTOS / source).read_text(encoding="utf-8") for source in sources())
SERVICES = {
    service: re.findall(r"^  rpc (\w+)\(", body, re.MULTILINE)
    for service, body in re.findall(r"^service (\w+) \{$(.*?)^\}$", TEXT, re.MULTILINE | re.DOTALL)
}
"""{service: its methods} in the protos."""


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def _printed(*command: str | Path) -> str:
    """The output of a checker; it must not fail or print an error."""
    done = _run(*command)
    assert (done.returncode, done.stderr) == (0, ""), (done.stdout + done.stderr)[-8_000:]
    return done.stdout


@pytest.mark.needs("protoc", "mcs")
def test_csharp_messages_are_parsed(tmp_path: Path) -> None:
    others.write("csharp", tmp_path / "csharp")
    files = sorted((tmp_path / "csharp").glob("*.cs"))
    assert len(files) == len(sources())
    _printed("mcs", "--parse", "-warnaserror", *files)
    broken = tmp_path / "broken.cs"
    broken.write_text(
        files[0].read_text(encoding="utf-8").replace("public sealed partial class", "public class class", 1)
    )
    assert _run("mcs", "--parse", broken).returncode != 0


@pytest.mark.slow
@pytest.mark.builds
@pytest.mark.needs("javac", "mvn")
def test_kotlin_stubs_are_compiled(tmp_path: Path) -> None:
    output = tmp_path / "kotlin"
    # Kotlin's code is generated and compiled here; the Java SDK's tests run Java's compiler.
    command = ["mvn", "-B", "-q", "-Dstyle.color=never", "-f", str(others.KOTLIN), f"-Doutput={output}"]
    done = _run(*command, "process-sources")
    assert done.returncode == 0, (done.stdout + done.stderr)[-8_000:]
    stubs = {path.name.removesuffix("GrpcKt.class") for path in (output / "classes").rglob("*GrpcKt.class")}
    assert stubs == SERVICES.keys()


@pytest.mark.needs("protoc", "grpc_php_plugin", "php")
def test_php_messages_are_loaded_and_clients_parsed(tmp_path: Path) -> None:
    if not (PHP_LIBRARY / "Google/Protobuf").is_dir():
        missing("PHP's protobuf is not installed (Debian package php-google-protobuf)")
    output = tmp_path / "php"
    others.write("php", output)
    classes = list((output / "Restante/V1").glob("*.php"))
    clients = {
        path.name.removesuffix("Client.php"): path for path in classes if path.name.endswith("ServiceClient.php")
    }
    everything = ["-d", "error_reporting=-1", "-d", "display_errors=stderr", "-d", f"include_path={PHP_LIBRARY}"]
    loaded = _printed("php", *everything, HERE / "load.php", output)
    assert int(loaded) == len(classes) - len(clients) > 0
    assert clients.keys() == SERVICES.keys()
    for service, path in clients.items():
        _printed("php", *everything, "-l", path)
        assert re.findall(r"public function ([A-Z]\w+)\(", path.read_text(encoding="utf-8")) == SERVICES[service]


@pytest.mark.needs("protoc", "grpc_ruby_plugin", "ruby")
def test_ruby_messages_and_stubs_are_loaded(tmp_path: Path) -> None:
    if _run("ruby", "-e", "require 'grpc'").returncode != 0:
        missing("Ruby's gRPC is not installed (Debian packages ruby-grpc, ruby-google-protobuf)")
    output = tmp_path / "ruby"
    others.write("ruby", output)
    printed = _printed("ruby", HERE / "load.rb", output)
    assert {name: methods for name, *methods in map(str.split, printed.splitlines())} == SERVICES


def test_a_missing_generator_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GenerationFailed, match=r"^protoc is not installed \(Debian package protobuf-compiler\)"):
        others.write("ruby", tmp_path / "ruby")
    assert not (tmp_path / "ruby").exists()


def test_without_a_choice_what_cannot_be_generated_is_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    needed = {"kotlin": "mvn"}
    monkeypatch.setattr("sys.argv", ["others", "--output", str(tmp_path / "out")])
    assert others.main() == 0
    said = capsys.readouterr().err.splitlines()
    for name, line in zip(others.LANGUAGES, said, strict=True):
        assert line.startswith(f"{name}: left out: {needed.get(name, 'protoc')} is not installed (Debian package ")
    monkeypatch.setattr("sys.argv", ["others", "php", "--output", str(tmp_path / "out")])
    assert others.main() == 1
