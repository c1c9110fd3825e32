#!/usr/bin/env bash
# Puts an unsigned release of this version together in dist/vVERSION: build-release.sh PLATFORM=FOLDER…,
# each folder with a muster-agent and a muster-supervisor. Default: what `make release-programs` built
# here. FLOOR: hosts that have run this release refuse versions below this one.
#
# The signing key is never needed here: its owner signs and publishes, see docs/RELEASES.md.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(bash scripts/show-version.sh)
folder=dist/v$version
if [ -e "$folder" ]; then
    echo "$folder exists already: remove it first, so that no old files get into the release" >&2
    exit 1
fi
if [ $# -eq 0 ]; then
    set -- "linux-$(uname -m)=${CARGO_TARGET_DIR:-target}/host"
fi
programs=()
for one in "$@"; do
    programs+=(--program "$one")
done
mkdir -p dist
cargo build --workspace --locked --bin muster
exec "${CARGO_TARGET_DIR:-target}/debug/muster" release build "$folder" "${programs[@]}" --floor "${FLOOR:-0.0.0}"
