#!/bin/sh
# Shows how full the file systems are. Fails if one is fuller than THRESHOLD percent.
set -eu
df -P -h -x tmpfs -x devtmpfs -x overlay 2>/dev/null || df -P -h
full=$(df -P | awk -v most="$THRESHOLD" 'NR > 1 && $1 ~ /^\// {
  used = $5; sub(/%/, "", used)
  if (used + 0 >= most + 0) print $6 " is " $5 " full"
}')
if [ -n "$full" ]; then
  echo "$full" >&2
  exit 1
fi
echo "every file system is below $THRESHOLD%"
