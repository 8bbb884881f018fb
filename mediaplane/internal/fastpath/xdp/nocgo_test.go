//go:build !cgo

package xdp

const withC = false
