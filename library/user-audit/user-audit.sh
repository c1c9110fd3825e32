#!/bin/sh
# Lists the accounts that can sign in, those with the id 0, and who may become root. Fails if another
# account than root has the id 0, or an account has no password.
set -eu
status=0
echo "Accounts with a shell:"
awk -F: '$7 !~ /(nologin|false|sync|halt|shutdown)$/ {print "  " $1 " (" $3 ") " $7}' /etc/passwd
others=$(awk -F: '$3 == 0 && $1 != "root" {print $1}' /etc/passwd)
if [ -n "$others" ]; then
  echo "accounts with the id 0 beside root: $others" >&2
  status=1
fi
if [ -r /etc/shadow ]; then
  open=$(awk -F: '$2 == "" {print $1}' /etc/shadow)
  if [ -n "$open" ]; then
    echo "accounts without a password: $open" >&2
    status=1
  fi
else
  echo "(/etc/shadow cannot be read, so passwords were not checked)"
fi
echo "Members of groups that may become root:"
awk -F: '$1 ~ /^(sudo|wheel|admin)$/ && $4 != "" {print "  " $1 ": " $4}' /etc/group
exit "$status"
