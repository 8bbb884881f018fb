#!/bin/sh
# Installs the Debian packages that the tests use as peers, when they are missing.
set -eu

missing=
need() { # a command or file that shows the package, and the package
	if ! command -v "$1" >/dev/null 2>&1 && [ ! -e "$1" ] && ! ls $1 >/dev/null 2>&1; then
		missing="$missing $2"
	fi
}
need gcc gcc
# The compiler of bpf/, to see that what is committed is what it makes.
need clang-19 clang-19
need llvm-strip-19 llvm-19
need /usr/include/stdlib.h libc6-dev
need kamailio kamailio
need sipp sip-tester
need '/usr/lib/*/kamailio/modules/tls.so' kamailio-tls-modules
need dnsmasq dnsmasq-base
need baresip baresip-core
need linphonec linphone-cli
need chromium chromium
need firefox-esr firefox-esr
need '/usr/lib/postgresql/*/bin/initdb' postgresql
need ip iproute2
need ethtool ethtool
need rtpengine rtpengine-daemon
need ethtool ethtool
need curl curl
need jq jq

[ -n "$missing" ] || exit 0
echo "installing$missing"
sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# Services of these packages are not wanted here: the tests start their own.
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing </dev/null >/dev/null
