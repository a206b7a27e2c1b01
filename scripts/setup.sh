#!/bin/sh
# Installs what is missing, and only that: Debian 12 or Ubuntu 24.04, root, apt and npm.
set -eu
cd "$(dirname "$0")/.."

missing=
need() { # need PACKAGE TEST...: the package is wanted when the test fails
  package=$1
  shift
  "$@" >/dev/null 2>&1 || missing="$missing $package"
}

installed() { dpkg-query -W -f='${Status}' "$1" | grep -q 'ok installed'; }
has() { command -v "$1"; }

need clang-19 has clang-19
need clang-format-19 has clang-format-19
need libbpf-dev test -e /usr/include/bpf/bpf_helpers.h
need linux-libc-dev test -e /usr/include/linux/bpf.h
need iproute2 has ip
need util-linux has nsenter
need iputils-ping has ping
need nftables has nft
need ethtool has ethtool
need npm has npm
# bpftool is a package of its own on Debian, and comes with linux-tools on Ubuntu
if ! has bpftool >/dev/null 2>&1; then
  . /etc/os-release
  case $ID in
  ubuntu) missing="$missing linux-tools-common linux-tools-generic" ;;
  *) missing="$missing bpftool" ;;
  esac
fi

# The test that starts the unit boots systemd in a container: a package of 450 kB, of the very
# version of systemd that is here, which stays as it is.
wanted=
if [ "$(id -u)" = 0 ] && ! has systemd-nspawn >/dev/null 2>&1; then
  version=$(dpkg-query -W -f='${Version}' systemd 2>/dev/null || true)
  wanted=systemd-container${version:+=$version}
fi

# tshark is another reader of what goes through the tunnel, in one test.
reader=
[ "$(id -u)" != 0 ] || has tshark >/dev/null 2>&1 || reader=tshark

# promtool checks the alert rules. It comes with a server that would start and listen, so its
# package is not installed: the program alone is taken out of it, into build/tools.
promtool=
has promtool >/dev/null 2>&1 || [ -x build/tools/promtool ] || promtool=wanted

fetch_promtool() {
  echo 'setup: fetching promtool'
  package=$(mktemp -d)
  (
    cd "$package" && apt-get download prometheus &&
      dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
  ) >>"$log" 2>&1 || true
  mkdir -p build/tools
  mv "$package/usr/bin/promtool" build/tools/ 2>>"$log" && fetched=0 || fetched=1
  rm -rf "$package"
  return $fetched
}

install() {
  echo "setup: installing $*"
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1
}

if [ -n "$missing$wanted$reader$promtool" ]; then
  if [ -n "$missing" ] && [ "$(id -u)" != 0 ]; then
    echo "setup: these packages are missing, and installing them takes root:$missing" >&2
    exit 1
  fi
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  # A third-party source that does not answer must not stop what Debian has.
  [ "$(id -u)" != 0 ] || apt-get update >"$log" 2>&1 || true
  # shellcheck disable=SC2086
  [ -z "$missing" ] || install $missing || { tail -n 20 "$log" >&2; exit 1; }
  [ -z "$wanted" ] || install "$wanted" ||
    echo "setup: no $wanted to be had; the test that starts the unit will be skipped"
  [ -z "$reader" ] || install "$reader" ||
    echo 'setup: no tshark to be had; the test that reads the tunnel with it will be skipped'
  [ -z "$promtool" ] || fetch_promtool ||
    echo 'setup: no promtool to be had; the tests of the alert rules will be skipped'
fi

# npm brings Node 24 as a package; the system's Node only runs npm.
if [ ! -e node_modules/.package-lock.json ] ||
  [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo "setup: installing npm packages"
  # Not `npm ci`: it refuses the lock file when a registry does not carry the native
  # packages of every other platform. Versions and digests are the lock file's here too.
  npm install --no-save --no-audit --no-fund --loglevel=error
  touch node_modules/.package-lock.json
fi
