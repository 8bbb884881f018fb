// Package fastpath holds the compiled XDP programs of the media plane, the maps
// that they share with user space, and the types of what is in the maps. The
// source is in bpf/src; `make generate` compiles it.
package fastpath
