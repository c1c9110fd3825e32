#!/usr/bin/env bash
# Compiles what is looked at with counters for libFuzzer, and all else as it is. Every flag is one of
# the stable compiler; what runs while building (no --target) must stay free of them.
set -euo pipefail

rustc=$1
shift
case "${CARGO_PKG_NAME:-}" in
muster-fuzz | muster-protocol | muster-agent | muster-server | serde_json | winnow | aho-corasick)
    if [[ " $* " == *" --target "* ]]; then
        exec "$rustc" "$@" -Cpasses=sancov-module \
            -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
            -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares
    fi
    ;;
esac
exec "$rustc" "$@"
