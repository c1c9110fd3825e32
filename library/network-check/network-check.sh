#!/bin/sh
# Resolves a name, and connects to a port of it if one is given. PORT 0 only resolves.
set -eu
addresses=$(getent ahosts "$HOST" | awk '{print $1}' | sort -u)
if [ -z "$addresses" ]; then
  echo "$HOST does not resolve" >&2
  exit 1
fi
echo "$HOST has the addresses: $(printf "%s\n" "$addresses" | tr "\n" " ")"
[ "$PORT" -ne 0 ] || exit 0
if command -v nc >/dev/null; then
  nc -z -w 5 "$HOST" "$PORT" || { echo "$HOST:$PORT does not accept connections" >&2; exit 1; }
elif command -v bash >/dev/null; then
  # shellcheck disable=SC2016
  timeout 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$HOST" "$PORT" 2>/dev/null ||
    { echo "$HOST:$PORT does not accept connections" >&2; exit 1; }
else
  echo "neither nc nor bash is installed" >&2
  exit 2
fi
echo "$HOST:$PORT accepts connections"
