#!/usr/bin/env bash
# Raises the version of everything: bump-version.sh patch, minor or major. The version is written once, in
# Cargo.toml under [workspace.package]; the lock files, the changelog and server/openapi.json follow.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(bash scripts/show-version.sh)
IFS=. read -r major minor patch <<<"$version"
case ${1:-} in
major) next=$((major + 1)).0.0 ;;
minor) next=$major.$((minor + 1)).0 ;;
patch) next=$major.$minor.$((patch + 1)) ;;
*)
    echo "usage: make bump PART=patch, PART=minor or PART=major; the version is $version" >&2
    exit 2
    ;;
esac

# edit FILE SCRIPT: sed in place, on any system.
edit() {
    sed "$2" "$1" >"$1.new"
    cat "$1.new" >"$1"
    rm "$1.new"
}

# Checked before anything changes: without this line the changelog would get no part for the new version.
if ! grep -q '^## \[Unreleased\]$' CHANGELOG.md; then
    echo "CHANGELOG.md has no line '## [Unreleased]': add it above the unreleased changes" >&2
    exit 1
fi

edit Cargo.toml '/^\[workspace\.package\]/,/^$/s/^version = .*/version = "'"$next"'"/'
edit CHANGELOG.md 's/^## \[Unreleased\]$/&\
\
## ['"$next"'] - '"$(date -u +%F)"'/'
cargo update --workspace --offline --quiet
# The fuzzer is a workspace of its own, which takes ours by path.
if [ -e fuzz/engine/Cargo.lock ]; then
    edit fuzz/engine/Cargo.lock '/^name = "muster-/{n;s/^version = "'"$version"'"$/version = "'"$next"'"/;}'
fi
bash scripts/write-openapi.sh
echo "$version → $next"
