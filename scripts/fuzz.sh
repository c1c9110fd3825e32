#!/usr/bin/env bash
# Fuzzes everything that reads bytes from outside: SECONDS for each target, all of them or those named.
# What it finds is in fuzz/found/, and the corpus grows in fuzz/corpus/. See docs/FUZZING.md.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?usage: scripts/fuzz.sh SECONDS [TARGET…]}
shift
triple=$(rustc -vV | sed -n 's/^host: //p')
engine=fuzz/engine/target/$triple/debug/muster-fuzz-engine
RUSTC_WRAPPER=$PWD/fuzz/engine/rustc.sh cargo build --locked --quiet \
    --manifest-path fuzz/engine/Cargo.toml --target-dir fuzz/engine/target --target "$triple"

if [ $# -eq 0 ]; then
    set -- fuzz/corpus/*/
fi
mkdir -p fuzz/found
failed=()
for target in "$@"; do
    target=$(basename "$target")
    fresh=fuzz/found/$target
    mkdir -p "$fresh"
    options=(-max_total_time="$seconds" -max_len=8192 -timeout=5 -rss_limit_mb=1024
        -artifact_prefix="fuzz/found/$target-" -print_final_stats=1)
    if [ -e "fuzz/dictionary/$target.dict" ]; then
        options+=(-dict="fuzz/dictionary/$target.dict")
    fi
    echo "$target"
    MUSTER_FUZZ_TARGET=$target nice "$engine" "${options[@]}" "$fresh" "fuzz/corpus/$target" \
        >"fuzz/found/$target.log" 2>&1 || failed+=("$target")
    grep -E '^(stat::(number_of_executed|average_exec|slowest_unit|peak_rss)|#.*DONE)' \
        "fuzz/found/$target.log" | sed 's/^/    /' || true
    # Only what reaches more than the corpus does is kept, in its smallest form.
    MUSTER_FUZZ_TARGET=$target nice "$engine" -merge=1 -use_counters=0 -max_len=4096 "fuzz/corpus/$target" "$fresh" \
        >>"fuzz/found/$target.log" 2>&1
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "found something in: ${failed[*]}; see fuzz/found/" >&2
    exit 1
fi
