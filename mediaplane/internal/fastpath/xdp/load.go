//go:build linux && (amd64 || arm64)

package xdp

import (
	"fmt"

	"github.com/cilium/ebpf"

	bpf "github.com/isthmus-gateway/isthmus/bpf/fastpath"
)

// spec is the programs and maps with room for a number of flows.
func spec(flows int) (*ebpf.CollectionSpec, error) {
	s, err := bpf.Spec()
	if err != nil {
		return nil, fmt.Errorf("read the XDP object: %w", err)
	}
	// Places are given back a little later than keys, so that there are some to
	// spare.
	spare := flows + flows/64 + 64
	for name, entries := range map[string]int{
		"flows4": flows, "flows6": flows, "flows": spare, "keys": spare, "labels": spare, "ports": 2 * flows,
	} {
		s.Maps[name].MaxEntries = uint32(entries)
	}
	return s, nil
}
