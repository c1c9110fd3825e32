#!/usr/bin/env bash
# Writes server/openapi.json from the code; a test compares the two.
#
# Builds with the selection of `make test`, so that nothing is compiled twice (docs/BUILDING.md).
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --workspace --bins --locked
"${CARGO_TARGET_DIR:-target}/debug/muster-server" openapi >server/openapi.json.new
mv server/openapi.json.new server/openapi.json
