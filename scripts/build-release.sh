#!/usr/bin/env bash
# Puts a release of this version together in dist/vVERSION, unsigned: build-release.sh PLATFORM=FOLDER…,
# each folder with a muster-agent and a muster-supervisor. Without any, what `make release-programs`
# has built here. FLOOR: the version below which hosts that have run this one may not go.
#
# The key never comes here: its owner signs and publishes, see docs/RELEASES.md.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(bash scripts/show-version.sh)
folder=dist/v$version
if [ -e "$folder" ]; then
    echo "$folder is there already: remove it first, so that nothing old gets into the release" >&2
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
exec cargo run --quiet --locked -p muster-cli -- \
    release build "$folder" "${programs[@]}" --floor "${FLOOR:-0.0.0}"
