#!/bin/sh
# Boots systemd over a copy of this machine's root, with Sekisho as `make install` leaves it, and
# runs check.sh there; what that says is in DIRECTORY/out/log. In a mount and network namespace of
# its own: nothing outside of DIRECTORY and a cgroup of that name is touched. Exit status 77: the
# machine does not allow it, standard error says what.
#   boot.sh DIRECTORY INSTALLED
set -eu
directory=$1
installed=$2
group=/sys/fs/cgroup/$(basename "$directory")
root=$directory/layer/root
cannot() {
	echo "cannot $1" >&2
	exit 77
}

mount -t tmpfs none /run || cannot 'mount a tmpfs'
umount -l /sys/fs/cgroup 2>/dev/null || :
mount -t cgroup2 none /sys/fs/cgroup || cannot 'mount cgroup2'
mkdir "$group" || cannot 'make a cgroup'
trap 'echo 0 >/sys/fs/cgroup/cgroup.procs; find "$group" -depth -type d -exec rmdir {} +' EXIT
echo 0 >"$group/cgroup.procs"

mkdir "$directory/layer" "$directory/pins"
mount -t tmpfs none "$directory/layer"
mkdir "$directory/layer/upper" "$directory/layer/work" "$root"
mount -t overlay overlay "$root" \
	-o "lowerdir=/,upperdir=$directory/layer/upper,workdir=$directory/layer/work" ||
	cannot 'lay an overlay over /'
mount -t bpf bpf "$directory/pins"

tar -C "$installed" -c --exclude=./usr/local/lib/sekisho . | tar -C "$root" -x
for unit in check.target check.service; do
	cp "$(dirname "$0")/$unit" "$root/etc/systemd/system/"
done
cp "$(dirname "$0")/check.sh" "$directory/out/"

systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit --link-journal=no \
	--private-network --capability=CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON --system-call-filter=bpf \
	--bind="$directory/pins:/sys/fs/bpf" --bind="$directory/out:/out" --console=pipe \
	--bind-ro="$installed/usr/local/lib/sekisho:/usr/local/lib/sekisho" \
	-- systemd.unit=check.target </dev/null
