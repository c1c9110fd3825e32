#!/bin/sh
# Reports whether the host needs a reboot. With STRICT it then fails.
set -eu
needed=
if [ -e /run/reboot-required ] || [ -e /var/run/reboot-required ]; then
  needed="an update asks for it"
elif command -v needs-restarting >/dev/null && ! needs-restarting -r >/dev/null 2>&1; then
  needed="an update asks for it"
elif [ -d /lib/modules ] && [ -n "$(ls /lib/modules)" ] && [ ! -d "/lib/modules/$(uname -r)" ]; then
  needed="the running kernel $(uname -r) is not installed any more"
fi
if [ -z "$needed" ]; then
  echo "no reboot is needed"
elif [ "$STRICT" = true ]; then
  echo "a reboot is needed: $needed" >&2
  exit 1
else
  echo "a reboot is needed: $needed"
fi
