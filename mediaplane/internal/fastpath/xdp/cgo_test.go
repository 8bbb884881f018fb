//go:build cgo

package xdp

// withC: there are threads of C, whose capabilities Go does not change.
const withC = true
