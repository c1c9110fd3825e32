#!/bin/sh
# Lists the ports on which programs listen.
set -eu
if command -v ss >/dev/null; then
  ss -H -l -n -t -u -p | awk '{print $1, $5, $7}' | sort -u
elif command -v netstat >/dev/null; then
  netstat -l -n -t -u -p 2>/dev/null | awk 'NR > 2 {print $1, $4, $NF}' | sort -u
else
  # Without a tool: the addresses are hexadecimal.
  for protocol in tcp tcp6; do
    awk -v protocol="$protocol" '$4 == "0A" {print protocol, $2}' "/proc/net/$protocol" 2>/dev/null || true
  done
fi
