#!/bin/sh
# Replaces `docker` on a throw-away host, where no engine can run: keeps what it was told in
# /var/lib/docker-stub/calls, and runs containers in place, with namespaces and volumes of their own.
# Every image is what Dockerfile.agent makes: the host's files, programs in /usr/lib/muster, a user
# of its own.
set -eu
here=/var/lib/docker-stub
user=10001
mkdir -p "$here/volumes" "$here/containers"
printf '%s\n' "$*" >>"$here/calls"

fail() {
    printf 'Error response from daemon: %s\n' "$*" >&2
    exit 1
}

# The number, on the host, of a container's process 1; nothing if it does not run.
first_process() {
    starter=$(cat "$here/containers/$1/starter" 2>/dev/null) || return 0
    cut -d' ' -f1 "/proc/$starter/task/$starter/children" 2>/dev/null || true
}

need_container() { [ -d "$here/containers/$1" ] || fail "No such container: $1"; }

# As the container's user, with its variables and no others.
# as_user USER ENVIRONMENT WORD…
as_user() {
    as=$1 variables=$2
    shift 2
    # From behind: of one that is said twice the last holds, as with `docker run`.
    while IFS= read -r line; do
        [ -z "$line" ] || set -- "$line" "$@"
    done <<END
$(tac "$variables")
END
    exec setpriv --reuid "${as%%:*}" --regid "${as##*:}" --clear-groups env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# inside FOLDER HOSTNAME USER WORD…: process 1 of a container, before it becomes its program.
inside() {
    folder=$1 as=$3
    hostname "$2"
    shift 3
    while IFS=: read -r volume target; do
        mkdir -p "$target" "$here/volumes/$volume"
        # An empty volume takes over whose the folder of the image is.
        [ -n "$(ls -A "$here/volumes/$volume")" ] || chown "$user:$user" "$here/volumes/$volume"
        mount --bind "$here/volumes/$volume" "$target"
    done <"$folder/volumes"
    if [ $# = 0 ]; then
        # The supervisor of the image brings the programs into an empty volume.
        version=$(/usr/lib/muster/muster-agent version)
        version=${version#* }
        if [ ! -e /opt/muster/versions/current ]; then
            mkdir -p "/opt/muster/versions/$version"
            cp -R /usr/lib/muster "/opt/muster/versions/$version/bin"
            ln -s "$version" /opt/muster/versions/current
            chown -Rh "$user:$user" /opt/muster/versions
        fi
        set -- /opt/muster/versions/current/bin/muster-supervisor run
    fi
    as_user "$as" "$folder/environment" "$@"
}

# enter FOLDER: the namespaces of a container, and what is to run in them.
enter() {
    folder=$1
    shift
    exec unshare --mount --pid --uts --fork --kill-child --mount-proc "$0" inside "$folder" "$@"
}

begin() {
    folder=$here/containers/$1
    setsid "$0" enter "$folder" "$(cat "$folder/hostname")" "$user:$user" </dev/null >>"$folder/log" 2>&1 &
    printf %s $! >"$folder/starter"
}

end() {
    child=$(first_process "$1")
    [ -n "$child" ] || return 0
    kill -s "$2" "$child"
    tries=0
    while [ -e "/proc/$child" ]; do
        tries=$((tries + 1))
        [ $tries != 300 ] || kill -s KILL "$child"
        sleep 0.1
    done
}

run() {
    name='' keep=1 entry='' as=$user:$user hostname=container
    folder=$(mktemp -d "$here/containers/.run.XXXXXX")
    : >"$folder/environment"
    : >"$folder/volumes"
    detach=''
    while [ $# -gt 0 ]; do
        case $1 in
        --rm) keep='' ;;
        --detach) detach=1 ;;
        --interactive) ;;
        --env) printf '%s\n' "$2" >>"$folder/environment" ;;
        --volume) printf '%s\n' "$2" >>"$folder/volumes" ;;
        --hostname) hostname=$2 ;;
        --user) as=$2 ;;
        --entrypoint) entry=$2 ;;
        --name) name=$2 ;;
        --network | --restart | --stop-timeout | --cap-add) ;;
        --privileged) ;;
        -*) fail "unknown flag: $1" ;;
        *) break ;;
        esac
        case $1 in --rm | --detach | --interactive | --privileged) shift ;; *) shift 2 ;; esac
    done
    grep -qxF "$1" "$here/images" || fail "pull access denied for $1"
    shift
    printf %s "$hostname" >"$folder/hostname"
    if [ -n "$detach" ]; then
        [ ! -e "$here/containers/$name" ] || fail "Conflict. The container name $name is already in use"
        mv "$folder" "$here/containers/$name"
        begin "$name"
        echo "$name"
        return 0
    fi
    code=0
    ("$0" enter "$folder" "$hostname" "$as" ${entry:+"$entry"} "$@") || code=$?
    [ -n "$keep" ] || rm -rf "$folder"
    exit $code
}

word=$1
shift
case $word in
inside | enter) "$word" "$@" ;;
info) [ ! -e "$here/down" ] ;;
image) grep -qxF "$2" "$here/images" ;;
pull) fail "pull access denied" ;;
volume)
    case $1 in
    create) mkdir -p "$here/volumes/$2" && echo "$2" ;;
    inspect) [ -d "$here/volumes/$2" ] ;;
    rm) rm -r "$here/volumes/$2" && echo "$2" ;;
    esac
    ;;
run) run "$@" ;;
exec)
    name=$1
    shift
    need_container "$name"
    child=$(first_process "$name")
    [ -n "$child" ] || fail "container $name is not running"
    exec nsenter -t "$child" -m -p -u -- "$0" run-in "$here/containers/$name/environment" "$@"
    ;;
run-in) as_user "$user:$user" "$@" ;;
container)
    # inspect --format '{{.State.Status}}' NAME
    need_container "$4"
    if [ -n "$(first_process "$4")" ]; then echo running; else echo exited; fi
    ;;
start)
    need_container "$1"
    [ -n "$(first_process "$1")" ] || begin "$1"
    echo "$1"
    ;;
stop)
    need_container "$1"
    end "$1" TERM
    ;;
rename)
    need_container "$1"
    mv "$here/containers/$1" "$here/containers/$2"
    ;;
rm)
    shift
    for name in "$@"; do
        end "$name" KILL
        rm -rf "$here/containers/$name"
    done
    ;;
logs)
    while [ $# -gt 1 ]; do
        case $1 in --tail) shift 2 ;; *) shift ;; esac
    done
    need_container "$1"
    cat "$here/containers/$1/log"
    ;;
*) fail "docker: '$word' is not a docker command" ;;
esac
