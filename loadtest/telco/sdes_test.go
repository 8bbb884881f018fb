package telco

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pion/rtp"
	sdpv3 "github.com/pion/sdp/v3"
)

// An offer with keys is answered with SRTP: what the peer sends is heard, what the
// network plays can be decrypted.
func TestSDES(t *testing.T) {
	for _, s := range suites {
		for _, profile := range []string{"RTP/SAVP", "RTP/AVP"} {
			t.Run(s.name+" "+profile, func(t *testing.T) {
				ours := keying{"1", s, make([]byte, s.key+s.salt)}
				m, peer, answer := openPair(t, fmt.Sprintf(
					"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 %s 0\r\n%s", profile, ours.line()))
				var d sdpv3.SessionDescription
				if err := d.Unmarshal([]byte(answer)); err != nil {
					t.Fatal(err)
				}
				theirs := parseKeying(d.MediaDescriptions[0])
				if theirs.none() || theirs.tag != "1" || theirs.suite.name != s.name || !strings.Contains(answer, profile+" ") {
					t.Fatalf("the answer is\n%s", answer)
				}
				out, err := ours.context()
				if err != nil {
					t.Fatal(err)
				}
				in, err := theirs.context()
				if err != nil {
					t.Fatal(err)
				}
				m.echo(true)
				packet := rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: 7, SSRC: 5}, Payload: []byte("an encrypted payload")}
				raw, err := packet.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				if raw, err = out.EncryptRTP(nil, raw, nil); err != nil {
					t.Fatal(err)
				}
				if _, err := peer.WriteToUDPAddrPort(raw, m.localAddress()); err != nil {
					t.Fatal(err)
				}
				back := readPacket(t, peer, func(b []byte) bool { return b[1] < 192 })
				plain, err := in.DecryptRTP(nil, back, nil)
				if err != nil || !strings.HasSuffix(string(plain), "an encrypted payload") {
					t.Fatalf("echoed %q: %v", plain, err)
				}
			})
		}
	}
}
