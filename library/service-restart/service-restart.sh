#!/bin/sh
# Restarts a service of systemd or OpenRC, and checks that it stays up for WAIT seconds.
set -eu
if command -v systemctl >/dev/null && [ -d /run/systemd/system ]; then
  restart() { systemctl restart -- "$SERVICE"; }
  is_up() { systemctl is-active --quiet -- "$SERVICE"; }
elif command -v rc-service >/dev/null; then
  restart() { rc-service "$SERVICE" restart; }
  is_up() { rc-service "$SERVICE" status >/dev/null; }
else
  echo "cannot restart $SERVICE: neither systemd nor OpenRC runs here" >&2
  exit 2
fi
restart || { echo "$SERVICE could not be restarted" >&2; exit 1; }
waited=0
while [ "$waited" -lt "$WAIT" ]; do
  sleep 1
  waited=$((waited + 1))
  is_up || { echo "$SERVICE was down $waited s after its restart" >&2; exit 1; }
done
is_up || { echo "$SERVICE is down" >&2; exit 1; }
echo "$SERVICE was restarted and stayed up for $WAIT s"
