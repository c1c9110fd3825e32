# shellcheck shell=sh
# Starts a container as an engine does, or makes its file system: $1 is where it is made, $2 the file
# system it begins with, $3 the folder with the programs of its /usr/lib/muster (or none), $4 the user
# as number:number, $5 the working directory. Then come volumes as SOURCE:PATH or SOURCE:PATH:ro, where
# SOURCE is a folder or a file, a --, variables as NAME=VALUE, and the command. Runs as process 1 of
# namespaces of its own.
set -eu
place=$1 below=$2 programs=$3 user=$4 directory=$5
shift 5

mkdir -p "$place/changes" "$place/work" "$place/root"
root=$place/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$below,upperdir=$place/changes,workdir=$place/work" "$root"
if [ -n "$programs" ]; then
    mkdir -p "$root/usr/lib/muster"
    mount --bind "$programs" "$root/usr/lib/muster"
    mount -o remount,bind,ro "$root/usr/lib/muster"
fi
while [ "$1" != -- ]; do
    source=${1%%:*} path=${1#*:} access=rw
    case $path in *:ro) path=${path%:ro} access=ro ;; esac
    if [ -d "$source" ]; then
        mkdir -p "$root$path"
        # A new volume begins with what the image has there, its owner and mode among it.
        if [ -z "$(ls -A "$source")" ]; then
            chown --reference="$root$path" "$source"
            chmod --reference="$root$path" "$source"
        fi
    elif [ ! -e "$root$path" ]; then
        : >"$root$path"
    fi
    mount --bind "$source" "$root$path"
    [ $access = rw ] || mount -o remount,bind,ro "$root$path"
    shift
done
shift
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/machine"
# What is not a volume is not written to once it runs.
[ "$user" = 0:0 ] || mount -o remount,bind,ro "$root"

cd "$root"
pivot_root . machine
umount -l /machine
hostname "$(basename "$place")"
cd "$directory"
[ "$user" != 0:0 ] || exec env -i "$@"
# shellcheck disable=SC2093 # an engine gives such a user no rights either
exec env -i setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all env -i "$@"
