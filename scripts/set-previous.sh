#!/usr/bin/env bash
# Sets the older build that the tests hold this one against: set-previous.sh COMMIT, and commits nothing.
#
# Takes any name of a commit, writes its full id into tests/previous/commit, and builds it, so that a commit
# that can't be built or was never published is noticed here and not in the middle of `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -ne 1 ]; then
    echo "usage: scripts/set-previous.sh COMMIT" >&2
    exit 2
fi
if ! commit=$(git rev-parse --verify --quiet "$1^{commit}"); then
    echo "there is no commit '$1' in this clone" >&2
    exit 1
fi
if ! git merge-base --is-ancestor "$commit" HEAD; then
    echo "$commit is not an ancestor of HEAD: a clone of this branch alone would lack it" >&2
    exit 1
fi
comments=$(grep '^#' tests/previous/commit)
printf '%s\n%s\n' "$comments" "$commit" >tests/previous/commit
bash scripts/build-previous.sh
echo "tests/previous/commit is $commit"
