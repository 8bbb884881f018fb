//go:build linux && (amd64 || arm64)

// Package xdp is the engine that forwards in the kernel: an XDP program on the
// node's interfaces does the whole of a plan, from SRTP to RTP headers, and sends
// the packet before a socket sees it.
//
// Everything that carries calls is pinned in a BPF file system under the node's
// name: maps, program, and the links that attach it. A process that dies leaves
// them working, and the next one takes them over:
//
//	<directory>/<node>/maps/<map>
//	<directory>/<node>/program
//	<directory>/<node>/links/<interface index>
//
// A process that stops with no plan left takes everything away.
package xdp
