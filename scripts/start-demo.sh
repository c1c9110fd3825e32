#!/usr/bin/env bash
# Builds the programs of the demo, starts a server, installs an agent for this user from that server, all
# in .demo/, runs a script through the REST API and prints where everything is. Run again, it uses what
# is running.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/demo-processes.sh

for tool in cargo cc curl; do
    if ! command -v "$tool" >/dev/null; then
        echo "make demo needs $tool: install it and try again" >&2
        exit 1
    fi
done

programs=${CARGO_TARGET_DIR:-target}/debug
# Without Node, everything but the dashboard works.
bash scripts/build-dashboard.sh --if-possible
if [ ! -x "$programs/muster-server" ]; then
    echo "Building Muster. The first build compiles about 400 crates and takes several minutes."
fi
# show_progress: cargo's messages on standard input become one line that counts, errors stay as they are.
show_progress() {
    local line count=0
    while IFS= read -r line; do
        case $line in
        *' Compiling '*)
            count=$((count + 1))
            if [ -t 1 ]; then
                printf '\r%d crates compiled or in progress' "$count"
            elif [ $((count % 50)) = 0 ]; then
                echo "$count crates compiled or in progress"
            fi
            ;;
        *' Finished '* | *' Downloading '* | *' Downloaded '* | *' Blocking '* | *' Updating '*) ;;
        *) printf '%s\n' "$line" ;;
        esac
    done
    if [ "$count" -gt 0 ]; then
        if [ -t 1 ]; then echo; fi
        echo "Built $count crates"
    fi
}
cargo build --workspace --locked --bin muster-server --bin muster-agent --bin muster-supervisor --bin muster 2>&1 | show_progress

umask 077
mkdir -p "$demo"

# True once the server has written its address and answers there.
server_answers() { [ -s "$demo/server/server_url" ] && curl -fsS -o /dev/null "$(cat "$demo/server/server_url")/readyz" 2>/dev/null; }

if [ -z "$(running_id server)" ]; then
    # A restarted server keeps its address, where its agent looks for it.
    before=$(sed 's#^http://##; s#/*$##' "$demo/server/server_url" 2>/dev/null || true)
    rm -f "$demo/server/server_url"
    start server "$programs/muster-server" serve --listen "${MUSTER_DEMO_LISTEN:-${before:-127.0.0.1:0}}" --data-dir "$demo/server"
fi
wait_until 30 "the server to answer" server_answers
url=$(cat "$demo/server/server_url")
url=${url%/}

# call METHOD PATH [BODY]: one REST call with the owner's key, which does not appear on the command line.
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
    echo "The script failed; the logs are in $demo" >&2
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

# The token is behind `#`, so that browsers send it to no server and no log has it. It makes the first owner,
# once, and signs in at once.
owner=demo@example.com
if [ -s "$demo/server/setup_token" ] && [ "$(curl -s -o /dev/null -w '%{http_code}' -H @- -H 'content-type: application/json' -d '{}' "$url/api/setup" <<<"authorization: Bearer $(cat "$demo/server/setup_token")")" = 422 ]; then
    [ -s "$demo/owner_password" ] || od -An -N12 -tx1 /dev/urandom | tr -d ' \n' >"$demo/owner_password"
    echo "Dashboard   $url/set-up#token=$(cat "$demo/server/setup_token")&email=$owner&password=$(cat "$demo/owner_password")"
    echo "            This link signs you in, once. Afterwards: $url"
else
    echo "Dashboard   $url"
fi
if [ -s "$demo/owner_password" ]; then echo "            Account $owner, its password is in $demo/owner_password"; fi
