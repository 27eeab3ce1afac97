#!/bin/sh
# The first process of a host, in namespaces of its own: makes it see a machine, and becomes its SSH server.
#
#   host.sh OWN NAME MEMORY [KEPT...]
#
# OWN: the host's folder, with etc/, home/ and tmp/. NAME: its host name. MEMORY: size of its shared memory.
# KEPT: folders under /home or /tmp that stay visible there: the Python environment may lie in one.
set -eu
own=$1 name=$2 memory=$3
shift 3

mount -t proc proc /proc
echo "$name" > /proc/sys/kernel/hostname
mount -t tmpfs -o "size=$memory,mode=1777" tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
cp "$own/etc/sshd_config" "$own/etc/host_key" "$own/etc/authorized_keys" /run/
mount --bind "$own/etc/passwd" /etc/passwd
mount --bind "$own/etc/hosts" /etc/hosts
for kept in "$@"; do
    mkdir -p "$own$kept"
    mount --bind "$kept" "$own$kept"
    mount -o remount,bind,ro "$own$kept"
done
mount --bind "$own/../../shared" "$own/home/shared"
mount --rbind "$own/home" /home
# The last one: the host's own folder may lie under /tmp.
mount --rbind "$own/tmp" /tmp
# What is not the host's own can be read only, so that no host writes where another one reads.
mount -o remount,bind,ro /
cd /
exec /usr/sbin/sshd -D -e -f /run/sshd_config
