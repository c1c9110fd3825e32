# shellcheck shell=sh
# shellcheck disable=SC2154 # `earlier`, the newer version that was installed, is the script's that has this part
# Part of the packages' scripts that run before an installation.
if [ -n "$(ls -A /var/lib/muster-server 2>/dev/null)" ]; then
    cat >&2 <<REASON
muster-server @VERSION@ is older than $earlier, which has written the data in /var/lib/muster-server.
An older server does not read the data of a newer one. To return to @VERSION@, move that directory away,
install the package, and restore a backup that @VERSION@ wrote into the empty directory:
https://github.com/muster-project/muster/blob/main/docs/BACKUP.md#upgrade-and-roll-back
REASON
    exit 1
fi
