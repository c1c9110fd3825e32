#!/bin/sh
# Prints the last lines of a log file, perhaps only those that contain a text.
set -eu
if [ ! -f "$FILE" ]; then
  echo "$FILE: no such file" >&2
  exit 1
fi
if [ -n "$MATCH" ]; then
  grep -F -- "$MATCH" "$FILE" | tail -n "$LINES"
else
  tail -n "$LINES" -- "$FILE"
fi
