#!/usr/bin/env bash
# Builds both container images and names them by their version. ENGINE: docker, podman or another program that
# understands `ENGINE build`.
set -euo pipefail
cd "$(dirname "$0")/.."

engine=${ENGINE:-docker}
if ! "$engine" version >/dev/null 2>&1; then
    echo "no container engine answers to '$engine version': start Docker, or say make images ENGINE=podman" >&2
    exit 1
fi
version=$(bash scripts/show-version.sh)
for part in server agent; do
    "$engine" build --file "Dockerfile.$part" --build-arg "VERSION=$version" \
        --tag "muster-$part:$version" --tag "muster-$part:latest" .
done
