#!/bin/sh
# Shows when certificates end. Fails if one ends within DAYS days. Needs openssl.
set -eu
command -v openssl >/dev/null || { echo "openssl is not installed" >&2; exit 2; }
seconds=$((DAYS * 86400))
status=0
for file in $FILES; do
  if [ ! -r "$file" ]; then
    echo "$file: cannot be read" >&2
    status=1
    continue
  fi
  end=$(openssl x509 -in "$file" -noout -enddate) || { status=1; continue; }
  echo "$file: expires ${end#notAfter=}"
  if ! openssl x509 -in "$file" -noout -checkend "$seconds" >/dev/null; then
    echo "$file: ends within $DAYS days" >&2
    status=1
  fi
done
exit "$status"
