#!/usr/bin/env bash
# Builds agent and supervisor of the commit in tests/previous/commit into target/previous, for the
# tests of old hosts with this server. Does nothing if they are there.
set -euo pipefail
cd "$(dirname "$0")/.."

commit=$(grep -v '^#' tests/previous/commit)
previous="${CARGO_TARGET_DIR:-$PWD/target}/previous"
if [ "$(cat "$previous/built" 2>/dev/null)" = "$commit" ]; then
    exit 0
fi
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "the tests need commit $commit, which this clone does not have: run git fetch --unshallow, or clone with its full history" >&2
    exit 1
fi

rm -rf "$previous"
mkdir -p "$previous/source"
git archive "$commit" | tar -x -C "$previous/source"
build() {
    # Once and for tests: without what debuggers and later builds would want.
    env -C "$previous/source" CARGO_TARGET_DIR="$previous/build" CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 \
        cargo build --locked "$@" -p muster-agent -p muster-supervisor --bins
}
# What is here already may be enough; whoever has no network is not asked for one.
build --offline || build
mkdir "$previous/bin"
mv "$previous/build/debug/muster-agent" "$previous/build/debug/muster-supervisor" "$previous/bin"
script=$previous/source/deploy.sh
[ -e "$script" ] || script=$previous/source/deploy/deploy.sh
cp "$script" "$previous/bin"
rm -rf "$previous/build" "$previous/source"
# Last: what is cut off before it is begun anew.
echo "$commit" >"$previous/built"
