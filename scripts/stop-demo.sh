#!/usr/bin/env bash
# Ends and uninstalls what start-demo.sh started, and nothing else, and removes .demo/.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/demo-processes.sh

if [ ! -d "$demo" ]; then
    echo "Nothing to stop: there is no $demo"
    exit 0
fi
if [ -x "$demo/agent/deploy.sh" ]; then
    "$demo/agent/deploy.sh" --uninstall --kill-executions
fi
stop server
rm -rf "$demo"
echo "Stopped, and removed $demo"
