#!/usr/bin/env bash
# Installs what package-lock.json pins into node_modules/, unless that has been done. Needs the network only then.
set -euo pipefail
cd "$(dirname "$0")"
if ! cmp --silent package-lock.json node_modules/.installed-lock.json; then
    npm ci --ignore-scripts --no-progress >&2
    cp package-lock.json node_modules/.installed-lock.json
fi
