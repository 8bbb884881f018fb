//go:build linux && (amd64 || arm64)

package mediaplane

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath/xdp"
)

func openXDP(cfg Config, addresses []netip.Addr, log *slog.Logger) (fastpath.Engine, error) {
	e, err := xdp.Open(xdp.Config{
		Node: cfg.NodeID, Directory: cfg.XDP.Directory, Interfaces: cfg.XDP.Interfaces, Addresses: addresses,
		Attachment: xdp.Attachment(cfg.XDP.Attachment), MaxFlows: cfg.XDP.MaxFlows, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Release takes away what a node has left in the kernel: its flows end, and no
// program stays on an interface. The node must not run.
func Release(cfg Config) (err error) {
	if cfg.NodeID == "" {
		if cfg.NodeID, err = os.Hostname(); err != nil {
			return fmt.Errorf("node_id: empty, and the host has no name: %w", err)
		}
	}
	return xdp.Release(cfg.XDP.Directory, cfg.NodeID)
}
