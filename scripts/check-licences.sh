#!/usr/bin/env bash
# Checks licences, banned crates and sources with cargo-deny where it is installed. A test checks the bans
# of deny.toml everywhere, without this tool and without a network.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v cargo-deny >/dev/null; then
    cargo deny --all-features check bans licenses sources
else
    echo "cargo-deny is not installed, so licences and sources are not checked; a test checks the bans"
fi
