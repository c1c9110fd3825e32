#!/usr/bin/env bash
# Builds agent and supervisor of the commit in tests/previous/commit into target/previous, for the
# tests of older hosts with this server. Does nothing if they are present.
set -euo pipefail
cd "$(dirname "$0")/.."

commit=$(grep -v '^#' tests/previous/commit || true)
if ! [[ $commit =~ ^[0-9a-f]{40}$ ]]; then
    echo "tests/previous/commit needs one line with the full id of a commit: bash scripts/set-previous.sh COMMIT" >&2
    exit 1
fi
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
    # Built once, for tests: without debug information and incremental files.
    env -C "$previous/source" CARGO_TARGET_DIR="$previous/build" CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 \
        cargo build --locked "$@" -p muster-agent -p muster-supervisor --bins
}
# Offline first: the crates are usually present.
build --offline || build
mkdir "$previous/bin"
mv "$previous/build/debug/muster-agent" "$previous/build/debug/muster-supervisor" "$previous/bin"
script=$previous/source/deploy.sh
[ -e "$script" ] || script=$previous/source/deploy/deploy.sh
cp "$script" "$previous/bin"
rm -rf "$previous/build" "$previous/source"
# Written last: a build that was interrupted starts again.
echo "$commit" >"$previous/built"
