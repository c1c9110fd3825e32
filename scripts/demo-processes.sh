# shellcheck shell=bash
# Starts and ends the demo's background programs; sourced by start-demo.sh and stop-demo.sh.
#
# Each has a file NAME.pid beside its log with its process id and the time that process started,
# so that a number used again by another process is never mistaken for ours.

demo=$PWD/.demo

# started_at PID: when the process started, empty if there is none or it has ended.
started_at() {
    if [ -r "/proc/$1/stat" ]; then
        # Field 22; the name in brackets may hold spaces, so count from behind it.
        sed -n 's/.*) //; /^[ZX]/!p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
    else
        ps -o lstart= -p "$1" 2>/dev/null || true
    fi
}

# running_id NAME: the process id of a program of ours that still runs, else empty.
running_id() {
    local id start
    [ -f "$demo/$1.pid" ] || return 0
    { read -r id && read -r start; } <"$demo/$1.pid" || return 0
    if [ -n "$start" ] && [ "$(started_at "$id")" = "$start" ]; then
        echo "$id"
    fi
}

# start NAME COMMAND…: starts a program in the background.
start() {
    local name=$1 id
    shift
    nohup "$@" >>"$demo/$name.log" 2>&1 </dev/null &
    id=$!
    printf '%s\n%s\n' "$id" "$(started_at "$id")" >"$demo/$name.pid"
}

# wait_until SECONDS WHAT COMMAND…: tries until the command succeeds; says so when it never does.
wait_until() {
    local tries=$(($1 * 10)) what=$2
    shift 2
    until "$@"; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            echo "timed out waiting for: $what; the logs are in $demo" >&2
            return 1
        fi
        sleep 0.1
    done
}

has_ended() { [ -z "$(running_id "$1")" ]; }

# stop NAME: asks a program of ours to end, and ends it when it does not.
stop() {
    local id
    id=$(running_id "$1")
    [ -n "$id" ] || return 0
    kill -TERM "$id" 2>/dev/null || true
    if ! wait_until 20 "$1 to end" has_ended "$1"; then
        kill -KILL "$id" 2>/dev/null || true
    fi
}
