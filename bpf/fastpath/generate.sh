#!/bin/sh
# Compiles the programs and makes the Go side of them. Without the compiler what
# is committed stays as it is.
set -eu
cd "$(dirname "$0")"
clang=clang-19
if ! command -v $clang >/dev/null; then
	echo "bpf/fastpath: $clang is not installed: keeping the committed object" >&2
	exit 0
fi
exec go tool -modfile=../../deploy/tools/tools.mod bpf2go -cc $clang -strip llvm-strip-19 \
	-cflags "-O2 -g -Wall -Werror -mcpu=v3 -ffile-prefix-map=$(cd .. && pwd)=bpf" \
	-target bpfel -go-package fastpath -type flow -type crypto -type key4 -type key6 -type port \
	-type node -type egress -type label -type cause -type mode -type suite -type layout \
	object ../src/fastpath.c -- -I../headers
