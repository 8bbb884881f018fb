//go:build !linux || (!amd64 && !arm64)

package mediaplane

import (
	"errors"
	"log/slog"
	"net/netip"

	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

var errNoXDP = errors.New("the engine in the kernel needs Linux on amd64 or arm64")

func openXDP(Config, []netip.Addr, *slog.Logger) (fastpath.Engine, error) { return nil, errNoXDP }

// Release has nothing to take away here.
func Release(Config) error { return errNoXDP }
