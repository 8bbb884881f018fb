#!/bin/sh
# Compiles the programs and makes the Go side of them. Without the compiler what
# is committed stays as it is.
set -eu
cd "$(dirname "$0")"
clang=clang-19
if ! command -v $clang >/dev/null; then
	echo "loadtest/liveframe: $clang is not installed: keeping the committed object" >&2
	exit 0
fi
exec go tool -modfile=../../deploy/tools/tools.mod bpf2go -cc $clang -strip llvm-strip-19 \
	-cflags "-O2 -g -Wall -Werror -mcpu=v4 -ffile-prefix-map=$(pwd)=liveframe" \
	-target bpfel -go-package liveframe -type stream -type receiver -type endpoint \
	object bpf/liveframe.c -- -I../../bpf/headers
