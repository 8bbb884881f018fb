// Package baresip runs baresip as a telephone of the far end: it answers every
// call and sends back what it hears.
package baresip

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
)

// Telephone is a running baresip.
type Telephone struct {
	*process.Process
	address string
}

// The two ends of aubridge are joined: what is played is recorded.
const configuration = `
sip_listen		127.0.0.1:%[1]d
sip_trans_def		%[6]s
%[7]saudio_player		aubridge,loop
audio_source		%[5]s
audio_alert		aubridge,alert
audio_srate		8000-48000
audio_channels		1-2
rtp_ports		%[2]d-%[3]d
rtcp_mux		no
jitter_buffer_delay	1-3
net_interface		127.0.0.1
module_path		/usr/lib/baresip/modules
module			stdio.so
module			g711.so
module			%[4]s
module			aubridge.so
module			aufile.so
module			srtp.so
module_tmp		account.so
module_app		menu.so
`

// Options of a telephone.
type Options struct {
	// Encryption of its media: "srtp" (offers keys that may be ignored),
	// "srtp-mand" (RTP/SAVP), "srtp-mandf" (RTP/SAVPF); empty is in the clear.
	Encryption string
	// Transport of its calls: udp (empty), tcp or tls. It is called by UDP and TCP
	// at its port, and by TLS, when it has a certificate, at the one after it.
	Transport string
	// Certificate and Key of its own and CA that it believes: PEM files.
	Certificate, Key, CA string
	// Calls is a SIP URI that it calls when it is ready; empty for none. Its
	// caller hears a tone of Hz instead of himself.
	Calls string
	Hz    int
}

// Listen starts a telephone for a number; it speaks G.711. The test is skipped
// when baresip is not installed.
func Listen(t testing.TB, at int, number string, o Options) *Telephone {
	t.Helper()
	path := process.Find(t, "baresip", "baresip-core")
	dir := t.TempDir()
	rtp := port.Range(t, 20)
	encryption := ""
	if o.Encryption != "" {
		encryption = ";mediaenc=" + o.Encryption
	}
	args, source := []string{"-f", dir, "-s", "-v"}, "aubridge,loop"
	if o.Calls != "" {
		source = "aufile," + filepath.Join(dir, "tone.wav")
		args = append(args, "-e", "/dial "+o.Calls)
	}
	if o.Transport == "" {
		o.Transport = "udp"
	}
	secure, pair := "", ""
	if o.Certificate != "" {
		secure = fmt.Sprintf("sip_certificate\t\t%s\nsip_cafile\t\t%s\n", filepath.Join(dir, "pair.pem"), o.CA)
		for _, name := range []string{o.Key, o.Certificate} {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			pair += string(text)
		}
	}
	files := map[string]string{
		"config":   fmt.Sprintf(configuration, at, rtp, rtp+19, "g722.so", source, o.Transport, secure),
		"pair.pem": pair,
		"accounts": fmt.Sprintf("<sip:%s@127.0.0.1;transport=%s>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1,PCMA/8000/1%s\n", number, o.Transport, encryption),
		"contacts": "",
		"tone.wav": wave(o.Hz),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &Telephone{address: fmt.Sprintf("127.0.0.1:%d", at)}
	p.Process = process.Start(t, process.Config{
		Name: "baresip", Path: path, Args: args, Dir: dir, Env: []string{"HOME=" + dir},
	})
	p.AwaitOutput(20*time.Second, "baresip is ready")
	return p
}

// wave is half a minute of a tone, as the 16-bit samples of a WAV file.
func wave(hz int) string {
	const rate, seconds = 8000, 30
	b := []byte("RIFF....WAVEfmt ")
	binary.LittleEndian.PutUint32(b[4:], 36+2*rate*seconds)
	for _, field := range []any{
		uint32(16), uint16(1), uint16(1), uint32(rate), uint32(2 * rate), uint16(2), uint16(16), []byte("data"), uint32(2 * rate * seconds),
	} {
		b, _ = binary.Append(b, binary.LittleEndian, field)
	}
	for i := range rate * seconds {
		b, _ = binary.Append(b, binary.LittleEndian, int16(8000*math.Sin(2*math.Pi*float64(hz)*float64(i)/rate)))
	}
	return string(b)
}

// Address of the telephone, host:port.
func (p *Telephone) Address() string { return p.address }
