# Runs as process 1 on the guest's root, after the variables that the host put in front:
# REPO, TREE, TOOLS, COMMAND. What it prints goes to the host; the last line is the exit status.
exec </dev/null >"$(echo /dev/vport*p1)" 2>&1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb

mount -t tmpfs tmpfs /run
mkdir -p /run/netns /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
tar -C "$TOOLS" -c . | tar -C / -x --keep-directory-symlink
version=$(uname -r)
mkdir -p "/lib/modules/$version"
mount --bind "$TREE/lib/modules/$version" "/lib/modules/$version"
ip link set lo up

cd "$REPO" || exit
sh -c "$COMMAND"
status=$?
[ $status = 0 ] || dmesg | tail -n 25
echo "[guest] exit=$status"
sync
echo o >/proc/sysrq-trigger
sleep 60
