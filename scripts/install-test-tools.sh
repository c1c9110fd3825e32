#!/usr/bin/env bash
# Makes sure that everything `make test` needs is here: installs it where that is possible,
# else says in one line what to install, and fails.
set -euo pipefail

missing=()

# need PACKAGE CHECK…: remembers the Debian package unless the check succeeds.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

has_postgresql() {
    compgen -G '/usr/lib/postgresql/*/bin/initdb' || command -v initdb
}

has_faketime() { compgen -G '/usr/lib/*/faketime/libfaketime.so.1'; }

need build-essential command -v cc
need busybox command -v busybox
need chromium command -v chromium
need cron command -v cron
need curl command -v curl
need dbus command -v dbus-daemon
need e2fsprogs command -v mkfs.ext4
need faketime has_faketime
need iproute2 command -v ip
need libpam-systemd test -e /usr/share/pam-configs/systemd
need mount command -v mount
need nginx-light command -v nginx
need nodejs command -v node
need npm command -v npm
need openrc command -v openrc
need postgresql has_postgresql
need prometheus command -v prometheus promtool
need python3 command -v python3
need python3-venv python3 -c 'import ensurepip, venv'
need python3-yaml /usr/bin/python3 -c 'import yaml'
need rpm command -v rpm rpmbuild
need runit command -v runsvdir
need shellcheck command -v shellcheck
need systemd test -x /lib/systemd/systemd
need tinyproxy-bin command -v tinyproxy
need user-mode-linux command -v linux.uml
need util-linux command -v setpriv unshare prlimit
need wget command -v wget

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        # The tests start clusters of their own; the package need not make one.
        if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            mkdir -p /etc/postgresql-common
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        fi
        export DEBIAN_FRONTEND=noninteractive
        # The tests start what they need themselves: no package may start a service here.
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
            chmod 755 /usr/sbin/policy-rc.d
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        fi
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "make test needs these packages; install them and try again: ${missing[*]}" >&2
        exit 1
    fi
fi

# Debian's own Node is older than what builds the dashboard.
if ! node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)'; then
    echo "make test needs Node 20.19 or newer, for the dashboard: https://nodejs.org/en/download" >&2
    exit 1
fi

if ! command -v cargo >/dev/null; then
    echo "make test needs Rust 1.95 or newer with rustfmt and clippy: install it with rustup" >&2
    exit 1
fi
for component in fmt clippy; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        echo "make test needs cargo $component: rustup component add rustfmt clippy" >&2
        exit 1
    fi
done
if ! cargo nextest --version >/dev/null 2>&1; then
    cargo install cargo-nextest --locked
fi

# The advisory database of RustSec, for scripts/check-licences.sh. No package registry has it, only its
# repository; where that can't be reached, the check says so. A copy of the last day is used again.
database=https://github.com/RustSec/advisory-db
fetched=$(find "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" -maxdepth 0 -mmin -1440 2>/dev/null || true)
if [ -z "$fetched" ] && curl -fsI --max-time 10 "$database" >/dev/null 2>&1; then
    command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
    timeout 300 cargo deny fetch db || echo "the RustSec advisory database could not be fetched" >&2
fi

# Validators and generators of clients for the descriptions of API and protocol: exact versions, from the
# registries of Python and Node, in a folder of their own.
source=$(dirname "$0")/../tests/tools
target=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/test-tools
# installed NAME FILE…: true if this folder was made from these files.
installed() {
    local name=$1
    shift
    cat "$@" | cmp -s - "$target/$name/installed_from"
}
if ! installed python "$source/requirements.txt"; then
    rm -rf "$target/python"
    mkdir -p "$target"
    python3 -m venv "$target/python"
    "$target/python/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$source/requirements.txt"
    cp "$source/requirements.txt" "$target/python/installed_from"
fi
if ! installed node "$source/package.json" "$source/package-lock.json"; then
    rm -rf "$target/node"
    mkdir -p "$target/node"
    cp "$source/package.json" "$source/package-lock.json" "$source/.npmrc" "$target/node/"
    (cd "$target/node" && npm ci --silent --no-audit --no-fund --ignore-scripts)
    cat "$source/package.json" "$source/package-lock.json" >"$target/node/installed_from"
fi
