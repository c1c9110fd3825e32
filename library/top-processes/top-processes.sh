#!/bin/sh
# Lists the processes that use the most memory or processor time, and the load.
set -eu
cat /proc/loadavg 2>/dev/null || uptime
case $SORT in
  memory) column=3 ;;
  *) column=4 ;;
esac
ps -eo pid,user,rss,pcpu,comm | awk 'NR == 1' | sed 's/^ *PID/PID/'
ps -eo pid,user,rss,pcpu,comm | awk 'NR > 1' | sort -k"$column" -n -r | head -n "$COUNT"
