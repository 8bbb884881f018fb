// Package nameserver runs dnsmasq as the name server of end-to-end tests.
package nameserver

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
)

// Start serves the zone example until the test ends, and answers host:port. Records
// are options of dnsmasq, host-record=sbc.carrier.example,127.0.0.1 for instance.
func Start(t testing.TB, records ...string) string {
	t.Helper()
	path := process.Find(t, "dnsmasq", "dnsmasq-base")
	p := port.Free(t)
	args := []string{"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=", "--pid-file=",
		"--listen-address=127.0.0.1", "--bind-interfaces", fmt.Sprintf("--port=%d", p), "--local=/example/", "--local-ttl=1"}
	for _, r := range records {
		args = append(args, "--"+r)
	}
	d := process.Start(t, process.Config{Name: "dnsmasq", Path: path, Dir: t.TempDir(), Args: args})
	address := fmt.Sprintf("127.0.0.1:%d", p)
	condition.Await(t, 10*time.Second, "dnsmasq to listen", func() error {
		if !d.Running() {
			return nil // the next step of the test will say so
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err
	})
	return address
}
