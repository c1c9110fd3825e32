# shellcheck shell=sh
# Boots a throw-away host: this machine's file system under an overlay that lives in $1, in
# namespaces of its own, with the service manager $2. Runs as process 1 of those namespaces.
# $3 and what follows are folders that are shared with the machine as they are.
set -eu
place=$1 manager=$2
shift 2

mkdir -p "$place/changes" "$place/work" "$place/root"
root=$place/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/changes,workdir=$place/work" "$root"
mount -t proc proc "$root/proc"
# Read-only: the machine's devices are not this host's to manage.
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
for folder in "$@"; do
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
done

cd "$root"
mkdir -p machine
pivot_root . machine
umount -l /machine
rmdir /machine
hostname throw-away

# That host does not start what this machine starts.
[ -e /etc/muster-test-host ] || {
    rm -rf /etc/systemd/system/*.wants /etc/systemd/user/*.wants /etc/runlevels/*/* /etc/service /etc/sv /var/spool/cron/crontabs/*
    mkdir -p /etc/systemd/system /etc/runlevels/default
    for unit in systemd-udevd.service systemd-udev-trigger.service systemd-sysctl.service systemd-binfmt.service \
        systemd-modules-load.service systemd-random-seed.service systemd-remount-fs.service systemd-journal-flush.service \
        systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-update-utmp.service \
        systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-firstboot.service systemd-networkd.service \
        network-online.target dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
        proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount sys-fs-fuse-connections.mount tmp.mount; do
        ln -sfn /dev/null "/etc/systemd/system/$unit"
    done
    rm -f /etc/machine-id
    head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >/etc/machine-id
    : >/etc/muster-test-host
}

# Every process whose parent ends becomes ours, and is collected here.
reap() { while :; do wait || :; sleep 1; done; }

case $manager in
systemd)
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec env -i container=throw-away PATH="$PATH" /lib/systemd/systemd --system --unit=multi-user.target --show-status=0
    ;;
openrc)
    mkdir -p /run/openrc
    : >/run/openrc/softlevel
    openrc default || :
    ;;
runit)
    mkdir -p /etc/service
    runsvdir -P /etc/service &
    ;;
cron) cron ;;
bare) ;;
esac
: >/run/booted
reap
