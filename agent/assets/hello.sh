#!/bin/sh
# The example that a new host starts with; edit script_manifest.json to list your own.
printf 'Hello, %s, from %s\n' "${NAME:-world}" "$(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)"
date
