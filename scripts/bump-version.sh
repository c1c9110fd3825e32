#!/usr/bin/env bash
# Raises the version of everything. It stands once, in Cargo.toml under [workspace.package]; the
# lock file and the changelog follow.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n '/^\[workspace\.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
if ! [[ $version =~ ^([0-9]+)\.([0-9]+)\.([0-9]+)$ ]]; then
    echo "Cargo.toml has no version like 1.2.3 under [workspace.package]: '$version'" >&2
    exit 1
fi
major=${BASH_REMATCH[1]} minor=${BASH_REMATCH[2]} patch=${BASH_REMATCH[3]}
case ${1:-} in
major) next=$((major + 1)).0.0 ;;
minor) next=$major.$((minor + 1)).0 ;;
patch) next=$major.$minor.$((patch + 1)) ;;
*)
    echo "usage: $0 patch|minor|major" >&2
    exit 2
    ;;
esac

# edit FILE SCRIPT: sed in place, on any system.
edit() {
    sed "$2" "$1" >"$1.new"
    cat "$1.new" >"$1"
    rm "$1.new"
}

edit Cargo.toml '/^\[workspace\.package\]/,/^$/s/^version = .*/version = "'"$next"'"/'
edit CHANGELOG.md 's/^## \[Unreleased\]$/&\
\
## ['"$next"'] - '"$(date -u +%F)"'/'
cargo update --workspace --offline --quiet
echo "$version → $next"
