//go:build linux && (amd64 || arm64)

package xdp

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	bpf "github.com/isthmus-gateway/isthmus/bpf/fastpath"
	"github.com/isthmus-gateway/isthmus/mediaplane/internal/fastpath"
)

// BenchmarkTransform measures the program alone, without network card and stack:
// nanoseconds for a G.711 packet of 20 ms (172 bytes of RTP). Two plans play it
// back and forth, one of each direction of a call, so that half of the packets
// are protected and half unprotected; every packet is a new one.
func BenchmarkTransform(b *testing.B) {
	for _, row := range []struct {
		name    string
		profile uint16
	}{
		{"relay", 0},
		{"AES_CM_128_HMAC_SHA1_80", fastpath.AES128CMSHA1},
		{"AEAD_AES_128_GCM", fastpath.AES128GCM},
		{"AEAD_AES_256_GCM", fastpath.AES256GCM},
	} {
		b.Run(row.name, func(b *testing.B) {
			k := loadKernel(b, 64)
			there, back := audio(fastpath.Relay, nil, nil), audio(fastpath.Relay, nil, nil)
			if row.profile != 0 {
				keys := master(rand.New(rand.NewPCG(1, 2)), row.profile)
				there, back = audio(fastpath.Protect, nil, keys), audio(fastpath.Unprotect, keys, nil)
			}
			back.Key = fastpath.Key{Local: there.To, Remote: there.From, SSRC: there.SSRC}
			back.From, back.To, back.SSRC = there.Key.Remote, there.Key.Local, there.Key.SSRC
			back.IndexOffset = 1
			there.TimeOffset, back.TimeOffset = 0, 0
			k.put(b, there)
			k.put(b, back)

			rtp := make([]byte, 172)
			rtp[0] = 0x80
			binary.BigEndian.PutUint16(rtp[2:], 1)
			binary.BigEndian.PutUint32(rtp[8:], ssrcIn)
			// An interrupted run begins again, with the same packet.
			fresh := [2]bpf.Flow{k.flows[k.plans[there.Key].slot], k.flows[k.plans[back.Key].slot]}
			reset := func() {
				k.flows[k.plans[there.Key].slot], k.flows[k.plans[back.Key].slot] = fresh[0], fresh[1]
				b.ResetTimer()
			}
			verdict, per, err := k.program.Benchmark(frame(there.Key.Remote, there.Key.Local, rtp), b.N, reset)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(per.Nanoseconds()), "ns/packet")
			p, _ := k.at(there.Key)
			q, _ := k.at(back.Key)
			if verdict != xdpRedirect || p.Packets+q.Packets < uint64(b.N) {
				b.Fatalf("verdict %d, %d of %d packets forwarded", verdict, p.Packets+q.Packets, b.N)
			}
		})
	}
}
