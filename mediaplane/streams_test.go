package mediaplane_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/isthmus-gateway/isthmus/mediaplane"
)

func TestPrintStreams(t *testing.T) {
	n := start(t, nil)
	c := dial(t, n, server, 0)
	c.connected()
	c.exchange(7)
	cfg := config()
	cfg.RPC.Listen = strings.TrimPrefix(n.plane.URL(), "http://")
	var out bytes.Buffer
	if err := mediaplane.PrintStreams(context.Background(), cfg, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want a head and two streams:\n%s", len(lines), out.String())
	}
	far := c.far.conn.LocalAddr().String()
	for i, want := range [][]string{
		{"SESSION", "STREAM", "LEG", "ENGINE", "LOCAL", "REMOTE", "RECEIVED", "LOST", "JITTER", "SENT", "REASON"},
		{"s1", "b", "browser", "user", "", "", "7", "0", "", "7"},
		{"s1", "t", "telco", "user", c.far.to.String(), far, "7", "0", "", "7"},
	} {
		got := strings.Fields(lines[i])
		for j, field := range want {
			if field != "" && (j >= len(got) || got[j] != field) {
				t.Errorf("line %d: %q, want %q in column %d", i, lines[i], field, j)
			}
		}
	}
	if !strings.Contains(lines[1], n.node().GetEngineReason()) {
		t.Errorf("%q does not say why no faster engine: %q", lines[1], n.node().GetEngineReason())
	}

	wrong := cfg
	wrong.RPC.SharedSecret = "another secret altogether"
	if err := mediaplane.PrintStreams(context.Background(), wrong, &out); err == nil || !strings.Contains(err.Error(), "unauthenticated") {
		t.Errorf("with a wrong secret: %v", err)
	}
	wrong = cfg
	wrong.RPC.Listen = "127.0.0.1:0"
	if err := mediaplane.PrintStreams(context.Background(), wrong, &out); err == nil || !strings.Contains(err.Error(), "rpc.listen") {
		t.Errorf("with port 0: %v", err)
	}
}
