#!/bin/sh
# Inside the container: puts the unit through its life, and says what it saw, a "name: value" a line.
set -u
unit=sekisho.service
config=/etc/sekisho/config.yaml

show() { systemctl show "$unit" -p "$1" --value; }
say() { printf '%s: %s\n' "$1" "$2"; }
links() { ls /sys/fs/bpf/sekisho/links 2>/dev/null | wc -l; }
reloaded() { sekisho status | awk '$1 == "Reload" { print $2 }'; }
wait_for() { # wait_for COMMAND...: at most 20 s
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || return 1
		sleep 0.1
	done
}
restarted() { [ "$(show NRestarts)" = 1 ] && [ "$(show ActiveState)" = active ]; }
applied() { [ "$(reloaded)" = applied ]; }

ip link add eth0 type veth peer name peer0
ip addr add 192.0.2.1/24 dev eth0
ip link set peer0 up
ip link set eth0 up
ip route add default dev eth0
echo 'maps: { ctTcp: 4096, ctAny: 2048, nat: 4096 }' >$config

systemctl start $unit
say start $?
say state "$(show ActiveState)"
say status "$(show StatusText)"
sekisho status >/dev/null
say healthy $?
say capabilities "$(grep CapBnd "/proc/$(show MainPID)/status" | cut -f2)"
say privileges "$(grep NoNewPrivs "/proc/$(show MainPID)/status" | cut -f2)"
say links "$(links)"
# Ring buffers that it listens to: the part of their memory that is mapped for reading only.
say rings "$(grep -c '^[^ ]* r--s .*bpf-map' "/proc/$(show MainPID)/maps")"

echo 'conntrack: { accounting: true }' >>$config
systemctl reload $unit
say reload $?
wait_for applied
say reloaded "$(reloaded)"

echo 'nonsense: true' >>$config
systemctl reload $unit
say wrong-reload $?
say state-after-wrong-reload "$(show ActiveState)"
sed -i '/nonsense/d' $config

kill -9 "$(show MainPID)"
wait_for restarted
say restarts "$(show NRestarts)"
sekisho status >/dev/null
say healthy-again $?

systemctl stop $unit
say stop $?
say result "$(show Result)"
say state-after-stop "$(show ActiveState)"
say links-after-stop "$(links)"
say maps-after-stop "$(ls /sys/fs/bpf/sekisho/ipv4 | grep -c '^ct_tcp$')"
say run-directory "$(ls /run/sekisho | tr '\n' ' ')"

systemctl start $unit
say start-again $?
systemctl stop $unit
journalctl -u $unit --no-pager -o cat | grep '"level":[456]0' | sed 's/^/warning: /'
