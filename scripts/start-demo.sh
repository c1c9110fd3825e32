#!/usr/bin/env bash
# Builds Muster, starts a server, installs an agent for this user with the line that the server
# says, all under .demo/, runs a script through REST and says where everything is. Run again, it
# uses what is running.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/demo-processes.sh

for tool in cargo cc curl; do
    if ! command -v "$tool" >/dev/null; then
        echo "make demo needs $tool: install it and try again" >&2
        exit 1
    fi
done

cargo build --workspace --bins --locked
programs=${CARGO_TARGET_DIR:-target}/debug

umask 077
mkdir -p "$demo"

server_answers() { [ -s "$demo/server/server_url" ] && curl -fsS -o /dev/null "$(cat "$demo/server/server_url")/readyz" 2>/dev/null; }

if [ -z "$(running_id server)" ]; then
    # A server that comes back is where its agent looks for it.
    before=$(sed 's#^http://##; s#/*$##' "$demo/server/server_url" 2>/dev/null || true)
    rm -f "$demo/server/server_url"
    start server "$programs/muster-server" serve --listen "${MUSTER_DEMO_LISTEN:-${before:-127.0.0.1:0}}" --data-dir "$demo/server"
fi
wait_until 30 "the server to answer" server_answers
url=$(cat "$demo/server/server_url")
url=${url%/}

# call METHOD PATH [BODY]: one REST call with the owner's key, which stays off the command line.
call() {
    local method=$1 path=$2 body=${3:-}
    curl -fsS -X "$method" -H @- ${body:+-H 'content-type: application/json' -d "$body"} "$url$path" \
        <<<"authorization: Bearer $(cat "$demo/server/bootstrap_key")"
}

# field NAME: the first string with this name in the JSON on standard input.
field() { grep -o "\"$1\" *: *\"[^\"]*\"" | head -n 1 | cut -d'"' -f4; }

if [ ! -s "$demo/agent_key" ]; then
    call POST /api/agents/keys '{"name": "demo"}' | field key >"$demo/agent_key"
fi
if ! "$demo/agent/deploy.sh" --status >/dev/null 2>&1; then
    curl -fsS "$url/install/deploy.sh" | sh -s -- --user --dir "$demo/agent" --key-file "$demo/agent_key"
fi
agent_is_connected() { agent=$(call GET /api/agents/connected | field id) && [ -n "$agent" ]; }
wait_until 30 "the agent to connect" agent_is_connected
host=$(call GET "/api/agents/$agent" | field name)

command=$(call POST "/api/agents/$agent/command" '{"command": "execute", "data": {"script": "hello"}}' | field id)
state=$(call GET "/api/commands/$command?wait_ms=30000" | field state)

echo
echo "The agent ran its script \`hello\`: $state. It printed:"
echo
call GET "/api/commands/$command/output" | sed 's/^/    /'
echo
if [ "$state" != succeeded ]; then
    echo "That is not what it should do; the logs are in $demo" >&2
    exit 1
fi
cat <<TEXT
Server      $url   (API documentation: $url/docs, more agents: $url/install)
Key         $demo/server/bootstrap_key
Agent       $agent, its scripts in $demo/agent/state/scripts
Look        $demo/agent/deploy.sh --status
Try it      $programs/muster login --server $url --key-file .demo/server/bootstrap_key
            $programs/muster run $host hello NAME=Ada
Or by REST  curl -H "authorization: Bearer \$(cat .demo/server/bootstrap_key)" -H 'content-type: application/json' \\
              -d '{"command": "execute", "data": {"script": "hello"}}' $url/api/agents/$agent/command
Stop        make demo-stop
TEXT
