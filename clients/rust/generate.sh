#!/usr/bin/env bash
# Generates the contract's half of the Rust SDK into target/: the first step of its build (build.rs), which needs no other
# command. Nothing of it is checked in. protoc and the generators come through cargo, as Cargo.toml pins them.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
if ! command -v cargo >/dev/null; then
    echo "clients/rust: cargo is not installed (Debian package cargo); its build generates the code" >&2
    exit 0
fi
cargo build --quiet --manifest-path "$here/Cargo.toml" --package restante
