#!/usr/bin/env bash
# Builds the .deb and .rpm packages from built programs (default target/debug), in this version and in a higher one,
# and uses them on a throw-away host with systemd: install, start, upgrade, downgrade, remove, purge. Needs root.
# A second argument, deb or rpm, checks only these packages. With --release FOLDER, the packages that `make packages`
# built are installed, and the time is measured.
#
# The host is this machine's file system under an overlay, in namespaces of its own, with a network of its own.
# shellcheck disable=SC2016 # the shell on that host expands its commands
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)

if [ "$(id -u)" != 0 ]; then
    echo "check-packages.sh starts a throw-away host: run it as root" >&2
    exit 1
fi
ready_packages=''
if [ "${1:-}" = --release ]; then
    ready_packages=$(cd "$2" && pwd)
else
    programs=$(cd "${1:-${CARGO_TARGET_DIR:-$repository/target}/debug}" && pwd)
fi
version=$(bash "$repository/scripts/show-version.sh")
higher=999.0.0

work=$(mktemp -d)
host_process=''
clean_up() {
    [ -z "$host_process" ] || kill -9 "$host_process" 2>/dev/null || true
    [ -z "$host_process" ] || wait "$host_process" 2>/dev/null || true
    ! mountpoint -q "$work/host" || umount -l "$work/host"
    rm -rf "$work"
}
trap clean_up EXIT
# Users that the packages create read their files here.
chmod 711 "$work"

say() { printf '%s\n' "$*"; }
fail() {
    say "FAILED: $*" >&2
    [ -z "$host_process" ] || in_host 'journalctl --no-pager --lines 30 --unit muster-server' >&2 || true
    exit 1
}

# in_host COMMAND: runs it as root, with a clean environment and nothing to read.
in_host() {
    nsenter -t "$first" -m -p -u -i -n -C -- env -i HOME=/tmp/home DEBIAN_FRONTEND=noninteractive \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -c "$1" </dev/null
}

# expect SENTENCE COMMAND: the command succeeds on the host.
expect() {
    in_host "$2" >"$work/output" 2>&1 || fail "$1: $2
$(cat "$work/output")"
}

# expect_refusal SENTENCE TEXT COMMAND: the command fails on the host, and prints the text.
expect_refusal() {
    ! in_host "$3" >"$work/output" 2>&1 || fail "$1: $3 succeeded"
    grep -qF "$2" "$work/output" || fail "$1: the reason '$2' is missing:
$(cat "$work/output")"
}

# eventually SENTENCE COMMAND: the command succeeds within 60 seconds.
eventually() {
    local deadline=$((SECONDS + 60))
    until in_host "$2" >"$work/output" 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "$1: $2
$(cat "$work/output")"
        sleep 0.1
    done
}

# timed WORD COMMAND: prints how long it takes on the host.
timed() {
    local start=${EPOCHREALTIME/./}
    expect "$1" "$2"
    printf '%s: %d ms\n' "$1" $(((${EPOCHREALTIME/./} - start) / 1000))
}

boot_host() {
    mkdir "$work/host"
    mount -t tmpfs -o size=3g,mode=755 tmpfs "$work/host"
    unshare --mount --pid --fork --uts --ipc --cgroup --net --kill-child \
        sh -c "$(cat "$repository/tests/src/hosts/boot.sh")" boot "$work/host" systemd "$work/packages" >"$work/boot.log" 2>&1 &
    host_process=$!
    first=''
    until [ -n "$first" ] && in_host 'systemctl is-active multi-user.target' >/dev/null 2>&1; do
        kill -0 "$host_process" 2>/dev/null || fail "the host did not boot: $(cat "$work/boot.log")"
        first=$(awk '{ print $1 }' "/proc/$host_process/task/$host_process/children" 2>/dev/null || true)
        sleep 0.1
    done
    # Images of Debian for containers forbid to start services. A host does not.
    expect "services may start" 'rm -f /usr/sbin/policy-rc.d && mkdir -p /tmp/home'
    # Every machine has this file, and a unit with a /dev of its own copies it.
    expect "the host has pseudo-terminals" 'ln -s pts/ptmx /dev/ptmx'
    # The throw-away host has no services of runit, which runit's package would look for after each installation.
    expect "runit is not involved" 'sed -i "/ runit\(\/noawait\)\?$/d" /var/lib/dpkg/triggers/File'
}

server_process() { in_host 'systemctl show --value --property MainPID muster-server'; }

expect_server() {
    eventually "the server is ready" 'curl -fsS http://127.0.0.1:8080/readyz'
    expect "the server runs as its own user" \
        '[ "$(awk "/^Uid:/ { print \$2 }" "/proc/$(systemctl show --value --property MainPID muster-server)/status")" = "$(id -u muster-server)" ]'
    expect "only the server reads its data" '[ "$(stat -c "%U:%G %a" /var/lib/muster-server)" = "muster-server:muster-server 700" ]'
    expect "only root and the server read the settings" '[ "$(stat -c "%U:%G %a" /etc/muster-server/server.env)" = "root:muster-server 640" ]'
}

# What is installed beside the server works.
expect_parts() {
    expect "the unit is valid" 'systemd-analyze verify muster-server.service'
    expect "the server gives hosts their programs" \
        'curl -fsS -o /dev/null http://127.0.0.1:8080/install/linux-$(uname -m)/muster-agent && curl -fsS http://127.0.0.1:8080/install/deploy.sh | head -n 1 | grep -q "^#!"'
    expect "the command line is complete" \
        "muster --version && zcat /usr/share/man/man1/muster-run.1.gz | grep -q 'muster' && bash -n /usr/share/bash-completion/completions/muster"
    expect "zsh and fish have their completions" \
        "grep -q '#compdef muster' $1 && grep -q 'complete -c muster' /usr/share/fish/vendor_completions.d/muster.fish"
}

# As docs/INSTALL.md describes it: with the service's user and settings.
as_service='systemd-run --quiet --pipe --wait --uid=muster-server -p EnvironmentFile=/etc/muster-server/server.env -E MUSTER_DATA_DIR=/var/lib/muster-server'

back_up() {
    expect "a backup is written" "install -d -o muster-server -m 700 /tmp/backup && $as_service muster-server backup /tmp/backup/older.tar.zst --with-keys"
}

# return_to_older COMMAND: installs the older version with the command, and restores its backup.
return_to_older() {
    expect "the data is moved away" 'systemctl disable --now muster-server && mv /var/lib/muster-server /tmp/newer-data'
    expect "without data the older version is installed" "$1"
    expect "it does not start" '! systemctl is-active muster-server && [ -z "$(ls -A /var/lib/muster-server)" ]'
    expect "the backup is restored" "$as_service muster-server restore /tmp/backup/older.tar.zst"
    expect "the server starts with it" 'systemctl enable --now muster-server'
    expect_server
    expect_data
    expect "the copies are deleted" 'rm -r /tmp/newer-data /tmp/backup'
}

write_data() {
    expect "a person signs in" 'muster login --server http://127.0.0.1:8080 --key-file /var/lib/muster-server/bootstrap_key'
    expect "a key is stored" 'muster keys create kept-by-upgrades'
    expect "a setting is stored" 'echo MUSTER_LOG=debug >>/etc/muster-server/server.env'
}

# The archive for hosts: its installer needs no download for an agent that connects to the installed server.
expect_agent_of_archive() {
    expect "the archive is unpacked" "cd /tmp && tar -xf $work/packages/muster-agent-$version-linux-\$(uname -m).tar.gz && mv muster-agent-$version-* from-archive"
    expect "an agent key is stored in a file" "umask 077 && muster --json keys create from-archive | grep -o 'mst_agent_[A-Za-z0-9_-]*' | head -n 1 >/tmp/agent_key"
    expect "the agent is installed from the archive" 'cd /tmp/from-archive && ./deploy.sh --from . --server http://127.0.0.1:8080 --key-file /tmp/agent_key --native'
    expect "the agent runs its script" "muster run \"\$(hostname)\" hello"
    expect "the agent is removed" '/opt/muster/deploy.sh --uninstall && rm -r /tmp/from-archive /tmp/agent_key'
}

expect_data() { expect "the data was kept" 'muster keys list | grep -q kept-by-upgrades'; }
expect_setting() { expect "the setting was kept" 'grep -qx MUSTER_LOG=debug /etc/muster-server/server.env'; }

# expect_same_server PROCESS: a refused installation has not interrupted the server.
expect_same_server() {
    [ "$(server_process)" = "$1" ] || fail "the refused downgrade restarted or stopped the server"
    expect_server
}

# expect_nothing_left: of the packages' files, the test's own apart.
expect_nothing_left() {
    local left
    left=$(cd "$work/host/changes" && find . -iname '*muster*' ! -type c ! -path ".$work*" ! -path ./etc/muster-test-host ! -path './tmp/*' ! -path './var/log/*' ! -path "./$(dirname "$work")*")
    [ -z "$left" ] || fail "these files are left: $left"
}

check_deb() {
    local architecture packages=$work/packages before
    architecture=$(dpkg --print-architecture)
    server_of() { echo "$packages/muster-server_$1_$architecture.deb"; }
    both_of() { echo "$packages/muster_$1_$architecture.deb $(server_of "$1")"; }

    timed "deb: install" "dpkg --force-confold -i $(both_of "$version")"
    expect_server
    expect "the server starts on boot" 'systemctl is-enabled muster-server'
    expect_parts /usr/share/zsh/vendor-completions/_muster
    write_data
    back_up
    expect_agent_of_archive

    before=$(server_process)
    timed "deb: upgrade" "dpkg --force-confold -i $(both_of "$higher")"
    [ "$(server_process)" != "$before" ] || fail "the upgrade did not restart the server"
    expect_server
    expect_data
    expect_setting
    expect "the new version's files are installed" '[ "$(cat /usr/lib/muster/server_version)" = '"$higher"' ]'

    before=$(server_process)
    expect_refusal "an older version is refused" "is older than $higher" "dpkg --force-confold -i $(server_of "$version")"
    expect_same_server "$before"
    expect "the newer version stays installed" '[ "$(dpkg-query -W -f "\${Version} \${db:Status-Status}" muster-server)" = "'"$higher"' installed" ] && [ -z "$(dpkg --audit)" ]'

    expect "an administrator disables the service" 'systemctl disable --now muster-server'
    expect "the same version is installed again" "dpkg --force-confold -i $(server_of "$higher")"
    expect "it stays disabled" '! systemctl is-enabled muster-server && ! systemctl is-active muster-server'
    expect "an administrator enables the service" 'systemctl enable --now muster-server'
    expect_server

    expect "the server is removed" 'dpkg -r muster-server'
    expect "it is stopped" '! systemctl is-active muster-server && [ ! -e /usr/bin/muster-server ] && [ -s /var/lib/muster-server/muster.db ]'
    expect_setting
    expect_refusal "an older version is refused after a removal" "is older than $higher" "dpkg --force-confold -i $(server_of "$version")"
    expect "the same version is installed again" "dpkg --force-confold -i $(server_of "$higher")"
    expect_server
    expect_data

    return_to_older "dpkg --force-confold -i $(server_of "$version")"

    expect "the packages are purged" 'dpkg -P muster-server muster'
    expect "the data is deleted" '[ ! -e /var/lib/muster-server ] && [ ! -e /etc/muster-server ]'
    expect_nothing_left
    say "deb: all expectations met"
}

check_rpm() {
    local architecture packages=$work/packages before
    architecture=$(uname -m)
    server_of() { echo "$packages/muster-server-$1-1.$architecture.rpm"; }
    both_of() { echo "$packages/muster-$1-1.$architecture.rpm $(server_of "$1")"; }
    # Debian's rpm has no database of this host's libraries: what the packages require is compared here.
    # shellcheck disable=SC2046 # two files
    rpm -qp --requires $(both_of "$version") | sort -u |
        grep -vE '^(/bin/sh|systemd|config\(muster-server\) = .*|ld-linux-.*|(libc|libm|libgcc_s)\.so\..*|rpmlib\(.*|rtld\(GNU_HASH\))$' >"$work/output" || true
    [ ! -s "$work/output" ] || fail "the packages require more than the C library and systemd: $(cat "$work/output")"

    timed "rpm: install" "rpm -i --nodeps $(both_of "$version")"
    expect "it does not start by itself" '! systemctl is-active muster-server'
    expect "an administrator starts the service" 'systemctl enable --now muster-server'
    expect_server
    expect_parts /usr/share/zsh/site-functions/_muster
    expect "files are as the package has them" 'rpm -V --nodeps muster muster-server'
    write_data
    back_up

    before=$(server_process)
    timed "rpm: upgrade" "rpm -U --nodeps $(both_of "$higher")"
    [ "$(server_process)" != "$before" ] || fail "the upgrade did not restart the server"
    expect_server
    expect_data
    expect_setting

    before=$(server_process)
    expect_refusal "an older version is refused" "which is newer than" "rpm -U --nodeps $(server_of "$version")"
    expect_refusal "an older version is refused with --oldpackage" "is older than $higher" "rpm -U --nodeps --oldpackage $(server_of "$version")"
    expect_same_server "$before"
    expect "the newer version stays installed" "rpm -q muster-server-$higher"

    expect "the server is removed" 'rpm -e muster-server'
    expect "it is stopped" '! systemctl is-active muster-server && [ ! -e /usr/bin/muster-server ] && [ -s /var/lib/muster-server/muster.db ]'
    expect "the settings are kept" 'grep -qx MUSTER_LOG=debug /etc/muster-server/server.env.rpmsave'
    expect "the same version is installed again" "rpm -i --nodeps $(server_of "$higher") && systemctl start muster-server"
    expect_server
    expect_data
    return_to_older "rpm -U --nodeps --oldpackage $(server_of "$version")"

    expect "the packages are removed with everything" 'rpm -e muster-server muster && rm -r /var/lib/muster-server /etc/muster-server'
    expect_nothing_left
    say "rpm: all expectations met"
}

mkdir "$work/packages"
if [ -n "$ready_packages" ]; then
    cp "$ready_packages"/muster* "$work/packages/"
    boot_host
    timed "deb: install" "dpkg -i $work/packages/muster_*.deb $work/packages/muster-server_*.deb"
    expect_server
    expect_parts /usr/share/zsh/vendor-completions/_muster
    expect "the server has the dashboard" "curl -fsS -H 'Accept: text/html' http://127.0.0.1:8080/ | grep -qi '<script'"
    timed "deb: purge" 'dpkg -P muster-server muster'
    timed "rpm: install" "rpm -i --nodeps $work/packages/*.rpm"
    expect "an administrator starts the service" 'systemctl start muster-server'
    expect_server
    expect_parts /usr/share/zsh/site-functions/_muster
    exit
fi

mkdir "$work/programs"
for program in muster-server muster muster-agent muster-supervisor; do
    strip --strip-debug -o "$work/programs/$program" "$programs/$program"
done
export SERVER_PROGRAMS=$work/programs HOST_PROGRAMS=$work/programs PACKAGE_COMPRESSION=fast
kinds=${2:-deb rpm}
PACKAGE_KINDS="$kinds archive" bash "$repository/scripts/build-packages.sh" "$work/built" >/dev/null
# Its settings have changed too, so that the packages have to keep an administrator's.
{
    cat "$repository/packaging/server.env"
    echo '# A line of the higher version.'
} >"$work/server.env"
PACKAGE_KINDS=$kinds PACKAGE_VERSION=$higher PACKAGE_SETTINGS=$work/server.env bash "$repository/scripts/build-packages.sh" "$work/built-higher" >/dev/null
(cd "$work/built" && sha256sum --check --quiet SHA256SUMS)
mv "$work/built"/muster* "$work/built-higher"/muster* "$work/packages/"
boot_host
# The search index of manual pages is not what takes the time here.
expect "manual pages are not indexed" 'rm -f /var/lib/man-db/auto-update'
for kind in $kinds; do
    "check_$kind"
done
