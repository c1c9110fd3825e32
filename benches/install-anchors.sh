#!/usr/bin/env bash
# Installs what `make bench` sets figures beside, where that is possible; without it the figure of
# one target has no anchor.
set -euo pipefail

if [ -x /usr/sbin/nats-server ] || [ -x /usr/local/bin/nats-server ]; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends nats-server
else
    echo "P1 will have no anchor: install the Debian package nats-server" >&2
fi
