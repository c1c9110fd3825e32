#!/usr/bin/env bash
# Builds the dashboard into web/dist, which the server embeds. Installs its tools first if their lock file
# changed. With --if-possible, a machine without Node only gets a note.
set -euo pipefail
cd "$(dirname "$0")/../web"

has_node() {
    command -v npm >/dev/null && command -v node >/dev/null &&
        node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)'
}
if ! has_node; then
    echo "The dashboard needs Node 20.19 or newer, with npm: https://nodejs.org/en/download" >&2
    if [ "${1:-}" = --if-possible ]; then exit 0; fi
    exit 1
fi
if ! cmp -s package-lock.json node_modules/.installed-from; then
    npm ci --silent --no-audit --no-fund --ignore-scripts
    cp package-lock.json node_modules/.installed-from
fi
# What is newer than the built page is built again.
if [ ! -e dist/index.html ] || [ -n "$(find src public index.html package-lock.json vite.config.ts -newer dist/index.html -print -quit)" ]; then
    npm run --silent build
fi
