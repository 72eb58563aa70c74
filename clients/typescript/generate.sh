#!/usr/bin/env bash
# Generates src/gen/ (messages and services of the contract, and google/rpc) from protos/.
#
#     clients/typescript/generate.sh [DIR]     DIR: where to write instead of src/gen
#
# protoc is the one of grpcio-tools (make setup); protoc-gen-es is pinned in package-lock.json.
set -euo pipefail
output="$(realpath -m "${1:-$(dirname "$0")/src/gen}")"
cd "$(dirname "$0")"
python="${PYTHON:-../../.venv/bin/python}"

./install.sh

# googleapis-common-protos has google/rpc, grpcio-tools has google/protobuf.
rpc="$("$python" -c 'import google.rpc.status_pb2 as m, pathlib; print(pathlib.Path(m.__file__).parents[2])')"
wkt="$("$python" -c 'import grpc_tools, pathlib; print(pathlib.Path(grpc_tools.__file__).parent / "_proto")')"

rm -rf "${output:?}/restante" "${output:?}/google"
mkdir -p "$output"
# shellcheck disable=SC2046
"$python" -m grpc_tools.protoc -I../../protos -I"$rpc" -I"$wkt" \
    --plugin=protoc-gen-es=node_modules/.bin/protoc-gen-es \
    --es_out="$output" --es_opt=target=ts,import_extension=js \
    $(cd ../../protos && printf '%s\n' restante/v1/*.proto) google/rpc/status.proto google/rpc/error_details.proto
