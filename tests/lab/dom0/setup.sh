#!/bin/sh
# setup.sh ROOT: turns a plain Debian tree into the emulated host's. mmdebstrap
# calls it when the packages are in.
set -eu
root=$1
here=$(dirname "$(readlink -f "$0")")

cp -R --no-preserve=ownership "$here/tree/." "$root/"
chmod 755 "$root"/usr/local/sbin/*

# One name, whatever the version.
set -- "$root"/usr/lib/xen-4.*
mkdir -p "$root/usr/local/lib"
ln -sfn "/usr/lib/${1##*/}" "$root/usr/local/lib/xen"

wanted='lab-modules lab-share lab-network xenstored xenconsoled lab-ready
containerd ssh'
for unit in $wanted; do
    chroot "$root" systemctl enable --quiet "$unit.service"
done

# Nothing here needs these, and each of them takes time under emulation.
# xen.service is Debian's script; xenstored and xenconsoled have units of
# their own, so that tests can stop one of them.
masked='xen.service xendomains.service
apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
fstrim.timer e2scrub_reap.service getty.target getty@tty1.service
systemd-pstore.service systemd-random-seed.service systemd-update-utmp.service
systemd-update-utmp-runlevel.service systemd-firstboot.service
systemd-machine-id-commit.service systemd-binfmt.service
systemd-sysusers.service systemd-repart.service systemd-logind.service
systemd-user-sessions.service systemd-udev-trigger.service
systemd-journal-flush.service systemd-remount-fs.service
systemd-modules-load.service kmod-static-nodes.service
systemd-ask-password-console.path systemd-ask-password-wall.path
sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
sys-fs-fuse-connections.mount sys-kernel-config.mount
proc-sys-fs-binfmt_misc.automount remote-fs.target'
for unit in $masked; do
    ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl set-default --quiet multi-user.target

# With systemd-user-sessions masked nobody would remove it again.
mkdir -p "$root/etc/tmpfiles.d"
ln -sfn /dev/null "$root/etc/tmpfiles.d/systemd-nologin.conf"

mkdir -p "$root/lab" "$root/root/.ssh" "$root/var/log/xen/console"
chmod 700 "$root/root/.ssh"
ssh-keygen -q -t ed25519 -N '' -C domus-lab -f "$root/root/.ssh/lab-key" \
    < /dev/null
mv "$root/root/.ssh/lab-key.pub" "$root/root/.ssh/authorized_keys"
# A fixed identity, so that systemd makes none at boot.
printf '%s\n' 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* \
    "$root"/var/log/*.log "$root"/boot/initrd.img-*
