#!/usr/bin/env bash
# Runs every test. The files of the tests are in memory where there is room: most tests wait for
# programs that write each step to disk. Set TMPDIR to choose another folder.
set -euo pipefail
cd "$(dirname "$0")/.."

room_kib=$((6 * 1024 * 1024))
if [ -z "${TMPDIR:-}" ]; then
    memory=/dev/shm
    free_kib=$(df --output=avail "$memory" 2>/dev/null | tail -n 1) || free_kib=0
    available_kib=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
    # The tests start programs that they copied into their folders.
    if [ "$(stat --file-system --format=%T "$memory" 2>/dev/null)" = tmpfs ] &&
        ! findmnt --noheadings --output OPTIONS --target "$memory" | grep -qw noexec &&
        [ "${free_kib:-0}" -gt "$room_kib" ] && [ "${available_kib:-0}" -gt $((2 * room_kib)) ]; then
        TMPDIR=$(mktemp -d "$memory/muster-tests.XXXXXX")
        # Programs that run as other users pass through it, as through /tmp.
        chmod 1777 "$TMPDIR"
        export TMPDIR
        trap 'rm -rf "$TMPDIR" || true' EXIT
    fi
fi
cargo nextest run --workspace --bins --tests --locked "$@"
