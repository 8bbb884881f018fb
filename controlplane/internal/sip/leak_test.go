package sip

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
)

// deaf hears nothing of the dialogs that it has.
type deaf struct{ gateway.NetworkEvents }

func (deaf) DialogChanged(context.Context, string, gateway.Dialog) {}

func storedDialog(i int, peer string) gateway.Dialog {
	d := dialog.State{Version: dialog.StateVersion, CallID: fmt.Sprintf("call-%024d", i), LocalTag: fmt.Sprintf("%012d", i), RemoteTag: "r",
		LocalURI: "<sip:+15550100@ims.example.com;user=phone>", RemoteURI: "<sip:+15550199@ims.example.com;user=phone>",
		Target: "sip:peer@" + peer, Routes: []string{"sip:proxy.example.com;lr"}, LocalSDP: crlf(offerSDP),
		Trunk: "test", Number: "+15550100", Contact: "15550100", Network: "udp"}
	return gateway.Dialog{SIPCallID: d.CallID, LocalTag: d.LocalTag, RemoteTag: d.RemoteTag, State: d.Marshal()}
}

// BenchmarkDialogs tells the memory of one confirmed dialog, with nothing under
// way, and that it has no goroutine.
func BenchmarkDialogs(b *testing.B) {
	cfg := testConfig()
	n, err := New(cfg, Deps{Events: deaf{}})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	heap := func() (uint64, int) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, runtime.NumGoroutine()
	}
	const calls = 10000
	for b.Loop() {
		before, goroutines := heap()
		for i := range calls {
			if err := n.Restore(b.Context(), fmt.Sprint("c", i), storedDialog(i, "127.0.0.1:9")); err != nil {
				b.Fatal(err)
			}
		}
		after, more := heap()
		b.ReportMetric(float64(after-before)/calls, "B/dialog")
		b.ReportMetric(float64(more-goroutines)/calls, "goroutines/dialog")
		for i := range calls {
			n.forget(n.byID(fmt.Sprint("c", i)))
		}
	}
}
