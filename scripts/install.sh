#!/bin/sh
# Installs what was built below $DESTDIR$PREFIX, or, with "uninstall", takes away what it installed.
set -eu
cd "$(dirname "$0")/.."

: "${PREFIX:=/usr/local}" "${DESTDIR:=}" "${NODE:=node}"
lib=$DESTDIR$PREFIX/lib/sekisho
command=$DESTDIR$PREFIX/bin/sekisho
share=$DESTDIR$PREFIX/share/doc/sekisho
unit=$DESTDIR$PREFIX/lib/systemd/system/sekisho.service
config=$DESTDIR/etc/sekisho/config.yaml

case $PREFIX in
/*[!a-zA-Z0-9/._+-]* | [!/]* | '')
  echo "install: PREFIX is an absolute path of plain characters, not \"$PREFIX\"" >&2
  exit 1
  ;;
esac

# The packages that run needs; of Node.js the program alone.
copy_modules() { # copy_modules TARGET
  "$NODE" scripts/runtime-modules.ts | while read -r module; do
    mkdir -p "$1/$(dirname "$module")"
    case $module in
    node_modules/node-linux-*)
      mkdir -p "$1/$module/bin"
      cp "$module/package.json" "$module/LICENSE" "$1/$module/"
      cp "$module/bin/node" "$1/$module/bin/"
      ;;
    *) cp -R "$module" "$1/$module" ;;
    esac
  done
}

install_files() {
  rm -rf "$lib.new"
  mkdir -p "$lib.new/bin" "$lib.new/bpf" "${command%/*}" "${unit%/*}" "${config%/*}"
  cp bin/sekisho "$lib.new/bin/"
  cp build/bpf/ipv4.bpf.o build/bpf/ipv4-reap.bpf.o build/bpf/ipv4-copy.bpf.o "$lib.new/bpf/"
  cp build/bpf/ipv6.bpf.o build/bpf/ipv6-reap.bpf.o build/bpf/ipv6-copy.bpf.o "$lib.new/bpf/"
  cp -R dist "$lib.new/"
  cp package.json LICENSE "$lib.new/"
  cp bpf/LICENSE "$lib.new/bpf/"
  copy_modules "$lib.new"
  rm -rf "$lib"
  mv "$lib.new" "$lib"
  ln -sfn "../lib/sekisho/bin/sekisho" "$command"
  rm -rf "$share"
  mkdir -p "$share/prometheus" "$share/grafana"
  cp deploy/prometheus/*.yml "$share/prometheus/"
  cp deploy/grafana/sekisho.json "$share/grafana/"
  sed "s|/usr/local/bin/|$PREFIX/bin/|g" deploy/sekisho.service >"$unit"
  echo "installed $lib, $command, $unit, $share"
  if [ -e "$config" ]; then
    echo "kept $config"
  else
    cp deploy/config.yaml "$config"
    echo "installed $config"
  fi
}

uninstall_files() {
  for path in "$lib" "$command" "$unit" "$share"; do
    [ -e "$path" ] || [ -L "$path" ] || continue
    rm -rf "$path"
    echo "removed $path"
  done
  [ ! -e "$config" ] || echo "kept $config"
  [ -n "$DESTDIR" ] || [ ! -d /sys/fs/bpf/sekisho ] ||
    echo "hooks and maps are still in the kernel: bin/sekisho cleanup removes them"
}

umask 022
case ${1:-install} in
install) install_files ;;
uninstall) uninstall_files ;;
*)
  echo "usage: scripts/install.sh [install | uninstall]" >&2
  exit 2
  ;;
esac
