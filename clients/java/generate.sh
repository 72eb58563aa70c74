#!/usr/bin/env bash
# Generates the contract's half of the Java SDK into client/target/generated-sources: the first step of its build, which
# needs no other command. Nothing of it is checked in. protoc and its plugin come through Maven, as pom.xml pins them.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
if ! command -v mvn >/dev/null; then
    echo "clients/java: mvn is not installed (Debian package maven); its build generates the code" >&2
    exit 0
fi
mvn -B -q -f "$here" -pl client -am generate-sources
