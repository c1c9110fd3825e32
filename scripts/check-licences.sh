#!/usr/bin/env bash
# Checks licences, banned crates, sources and known vulnerabilities with cargo-deny where it is installed. A
# test checks the bans of deny.toml everywhere, without this tool and without a network.
#
# The advisory database is a Git repository, which scripts/install-test-tools.sh fetches where it can.
# MUSTER_ADVISORIES=required makes its absence an error, for the machine that builds releases.
set -euo pipefail
cd "$(dirname "$0")/.."

advisories=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs

if command -v cargo-deny >/dev/null; then
    cargo deny --all-features check bans licenses sources
    if compgen -G "$advisories/*/" >/dev/null; then
        cargo deny --all-features --offline check advisories
        exit
    fi
else
    echo "cargo-deny is not installed, so licences and sources are not checked; a test checks the bans"
fi
echo "dependencies are NOT checked against known vulnerabilities: fetch the RustSec database with" \
    "cargo install cargo-deny --locked && cargo deny fetch db (needs https://github.com/RustSec/advisory-db)"
[ "${MUSTER_ADVISORIES:-}" != required ]
