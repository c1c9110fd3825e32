#!/usr/bin/env bash
# Checks licences, banned crates and sources with cargo-deny where it is installed. The rules that
# must hold everywhere are read from deny.toml by a test as well, which needs no tool.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v cargo-deny >/dev/null; then
    cargo deny --all-features check bans licenses sources
fi
