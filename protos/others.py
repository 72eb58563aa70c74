"""Generates clients without a layer of their own, in C#, Kotlin, PHP and Ruby, from `protos/restante/v1/*.proto`.

    python -m protos.others                         all that this machine can, into build/clients/LANGUAGE/
    python -m protos.others ruby php --output DIR   these, into DIR/LANGUAGE/; exit 1 when a generator is missing

C#, PHP and Ruby come from the `protoc` on PATH, since the libraries that load them must be at least as new as it: on
Debian both are. (The protoc of grpcio-tools has no generator but Python's.) Kotlin's come through Maven, as
clients/kotlin/pom.xml pins them: coroutine stubs above Java's messages. Nothing of it is checked in: nobody edits it,
and one command gives it again, as new as the libraries it is for.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from protos.generate import PROTOS, ROOT, GenerationFailed, includes, sources

OUTPUT = ROOT / "build/clients"
KOTLIN = ROOT / "clients/kotlin/pom.xml"


@dataclass(frozen=True)
class Language:
    """What a language's generators need, {program: its Debian package}, and the command that writes into a folder."""

    needs: Mapping[str, str]
    command: Callable[[Path], list[str]]

    def missing(self) -> list[str]:
        return [
            f"{name} is not installed (Debian package {self.needs[name]})" for name in self.needs if not _path(name)
        ]


def _path(program: str) -> str | None:
    return shutil.which(program)


def _csharp(output: Path) -> list[str]:
    return ["protoc", *includes(PROTOS), f"--csharp_out={output}", *sources()]


def _kotlin(output: Path) -> list[str]:
    return ["mvn", "-B", "-q", "-f", str(KOTLIN), f"-Doutput={output}", "generate-sources"]


def _php(output: Path) -> list[str]:
    plugin = f"--plugin=protoc-gen-grpc={_path('grpc_php_plugin')}"
    outputs = [f"--php_out={output}", f"--grpc_out={output}"]
    # PHP's protobuf library has google/protobuf, not google/rpc.
    return ["protoc", *includes(PROTOS), plugin, *outputs, *sources(), "google/rpc/status.proto"]


def _ruby(output: Path) -> list[str]:
    plugin = f"--plugin=protoc-gen-grpc={_path('grpc_ruby_plugin')}"
    return ["protoc", *includes(PROTOS), plugin, f"--ruby_out={output}", f"--grpc_out={output}", *sources()]


PROTOC = {"protoc": "protobuf-compiler"}
LANGUAGES: dict[str, Language] = {
    "csharp": Language(PROTOC, _csharp),
    "kotlin": Language({"mvn": "maven", "javac": "default-jdk-headless"}, _kotlin),
    "php": Language(PROTOC | {"grpc_php_plugin": "protobuf-compiler-grpc"}, _php),
    "ruby": Language(PROTOC | {"grpc_ruby_plugin": "protobuf-compiler-grpc"}, _ruby),
}


def write(language: str, output: Path) -> None:
    """Generate into `output`, which keeps nothing that was there before.

    Raises GenerationFailed, with what is missing or what the generator printed.
    """
    entry = LANGUAGES[language]
    if missing := entry.missing():
        raise GenerationFailed("; ".join(missing))
    output = output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    done = subprocess.run(entry.command(output), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GenerationFailed((done.stdout + done.stderr).strip())


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate clients in C#, Kotlin, PHP and Ruby.")
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help="of " + ", ".join(LANGUAGES) + "; none: all")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="write DIR/LANGUAGE/")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.languages if name not in LANGUAGES]:
        parser.error(f"no generator for {', '.join(unknown)}; there are {', '.join(LANGUAGES)}")
    failed = False
    for name in arguments.languages or LANGUAGES:
        left_out = not arguments.languages and LANGUAGES[name].missing()
        if left_out:
            print(f"{name}: left out: {'; '.join(left_out)}", file=sys.stderr)
            continue
        try:
            write(name, arguments.output / name)
        except GenerationFailed as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
        else:
            print(f"{name}: {arguments.output / name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
