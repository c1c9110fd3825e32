#!/usr/bin/env bash
# Prints the version of all programs, which is set once, in Cargo.toml under [workspace.package].
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n '/^\[workspace\.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
if ! [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]; then
    echo "Cargo.toml has no version like 1.2.3 under [workspace.package]: '$version'" >&2
    exit 1
fi
echo "$version"
