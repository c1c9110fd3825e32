# shellcheck shell=sh
# shellcheck disable=SC2154 # `earlier`, the newer version that was installed, is the script's that has this part
# Part of the packages' scripts that run before an installation.
if [ -n "$(ls -A /var/lib/muster-server 2>/dev/null)" ]; then
    cat >&2 <<REASON
muster-server @VERSION@ is older than $earlier, which has written the data in /var/lib/muster-server.
An older server does not read the data of a newer one. Nothing was changed. To return to @VERSION@, restore a backup
that it wrote: https://github.com/muster-project/muster/blob/main/docs/INSTALL.md#return-to-an-older-version
REASON
    exit 1
fi
