#!/usr/bin/env bash
# Ends what start-demo.sh started, and nothing else, and removes .demo/.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/demo-processes.sh

if [ ! -d "$demo" ]; then
    echo "Nothing to stop: there is no $demo"
    exit 0
fi
stop supervisor
stop server
wait_until 10 "the demo's scripts to end" no_jobs
rm -rf "$demo"
echo "Stopped, and removed $demo"
