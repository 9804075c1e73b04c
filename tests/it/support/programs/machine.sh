# A machine whose files are those of this one, under a layer of its own, and that systemd runs.
# machine.sh DIRECTORY: what stands in DIRECTORY/files is put over them. Says which process it is.
set -eu
directory=$1
if test "${2-}" != inside; then
    # What systemd keeps of its services stays apart from whoever keeps services here.
    groups=/sys/fs/cgroup
    if ! test -e $groups/cgroup.procs; then
        groups=$groups/systemd
        mkdir -p $groups
        mountpoint -q $groups || mount -t cgroup -o none,name=systemd systemd $groups
    fi
    group=$groups/$(basename "$directory")
    mkdir "$group"
    echo "$group" > "$directory/group"
    echo $$ > "$group/cgroup.procs"
    exec unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup sh "$0" "$directory" inside
fi
# As it is called outside: /proc is still the one from there.
read -r process _ < /proc/self/stat
mount --make-rprivate /
layer=$directory/layer
mount -t tmpfs larder-test "$layer"
mkdir "$layer/changes" "$layer/work" "$layer/root"
mount -t overlay -o "lowerdir=/,upperdir=$layer/changes,workdir=$layer/work" overlay "$layer/root"
cd "$layer/root"
# Nothing that is enabled here is started there.
rm -rf etc/systemd/system/*.wants
cp -a "$directory/files/." .
mount -t proc proc proc
# The kernel and its devices are not this machine's to set up, and systemd leaves alone what it cannot write.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --rbind /dev dev
mount --bind /sys sys
mount -o remount,bind,ro sys
if test -e /sys/fs/cgroup/cgroup.procs; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd systemd sys/fs/cgroup/systemd
fi
ip link set lo up
touch notify
mount --bind "$directory/notify" notify
mkdir before
# Not chroot: a service may not have users of its own in one.
pivot_root . before
cd /
umount -l /before
systemd-sysusers
echo "booting as $process"
exec env -i container=other NOTIFY_SOCKET=/notify PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd --unit=machine.target
