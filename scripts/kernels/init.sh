#!/bin/busybox sh
# The guest's first program: the host's root, read only, below a tmpfs that takes the writes.
set -e
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
while read -r module; do $busybox insmod "/modules/$module"; done </modules/order
$busybox mount -t virtiofs -o ro root /lower
$busybox mount -t tmpfs tmpfs /over
$busybox mkdir /over/upper /over/work
$busybox mount -t overlay -o lowerdir=/lower,upperdir=/over/upper,workdir=/over/work overlay /system
for directory in proc sys dev; do $busybox mount --move /$directory /system/$directory; done
$busybox cp /guest.sh /system/in-guest.sh
exec $busybox switch_root /system /bin/sh /in-guest.sh
