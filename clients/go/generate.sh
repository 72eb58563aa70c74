#!/usr/bin/env bash
# Generates the Go half of the contract, restante/v1/ and restante/reasons.go, from protos/restante/v1/*.proto.
#
#     clients/go/generate.sh          write clients/go/restante/
#     clients/go/generate.sh DIR      write DIR/restante/ (the test compares it with what is checked in)
#
# protoc comes with grpcio-tools (`make setup`), the generators from tools/go.mod; both are pinned.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
output="${1:-$here}"
python="$root/.venv/bin/python"
bin="$root/build/go-tools"

mkdir -p "$bin" "$output/restante/v1"
(cd "$here/tools" && GOBIN="$bin" go install tool)
rm -f "$output"/restante/v1/*.pb.go

includes="$("$python" -c '
import importlib.util, pathlib
common = pathlib.Path(importlib.util.find_spec("google.rpc.status_pb2").origin).parents[2]
bundled = pathlib.Path(importlib.util.find_spec("grpc_tools").origin).parent / "_proto"
print(f"-I{common}\n-I{bundled}")')"
mapfile -t includes <<<"$includes"
cd "$root/protos"
"$python" -m grpc_tools.protoc -I. "${includes[@]}" \
    --plugin="protoc-gen-go=$bin/protoc-gen-go" --plugin="protoc-gen-go-grpc=$bin/protoc-gen-go-grpc" \
    --go_out="$output" --go_opt=module=github.com/restante/restante/clients/go \
    --go-grpc_out="$output" --go-grpc_opt=module=github.com/restante/restante/clients/go \
    restante/v1/*.proto
cd "$here"
go run ./internal/reasons "$output/restante/v1/errors.pb.go" "$output/restante/reasons.go"
