#!/usr/bin/env bash
# Writes the descriptions of API and agent protocol from the code; a test compares them.
#
# Builds with the selection of `make test`, so that nothing is compiled twice (docs/BUILDING.md).
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --workspace --bins --locked
program=${CARGO_TARGET_DIR:-target}/debug/muster-server
for document in openapi:server/openapi.json asyncapi:protocol/asyncapi.json frames:protocol/frames.schema.json; do
    "$program" "${document%%:*}" >"${document#*:}.new"
    mv "${document#*:}.new" "${document#*:}"
done
