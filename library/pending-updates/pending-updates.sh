#!/bin/sh
# Lists the updates that the package manager offers. Installs nothing.
set -eu
if command -v apt-get >/dev/null; then
  if [ "$REFRESH" = true ]; then
    apt-get update -qq >/dev/null || { echo "the package lists could not be refreshed" >&2; exit 1; }
  fi
  list=$(apt-get -s -o Debug::NoLocking=true upgrade | awk '$1 == "Inst" {print $2, $3, $4}')
elif command -v dnf >/dev/null; then
  list=$(dnf -q check-update 2>/dev/null | awk 'NF == 3') || true
elif command -v apk >/dev/null; then
  if [ "$REFRESH" = true ]; then apk update -q; fi
  list=$(apk version -l '<' -q)
elif command -v zypper >/dev/null; then
  list=$(zypper -q list-updates | awk -F'|' 'NR > 2 {print $3, $5}')
else
  echo "no package manager that this script knows (apt, dnf, apk, zypper)" >&2
  exit 2
fi
if [ -n "$list" ]; then
  echo "$list"
  echo "$(printf '%s\n' "$list" | wc -l | tr -d ' ') updates are pending"
else
  echo "no updates are pending"
fi
