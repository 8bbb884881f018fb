// Package baresip runs baresip as a telephone of the far end: it answers every
// call and sends back what it hears.
package baresip

import (
	"fmt"
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
sip_trans_def		udp
audio_player		aubridge,loop
audio_source		aubridge,loop
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
module_tmp		account.so
module_app		menu.so
`

// Listen starts a telephone for a number; it speaks G.711, and G.722 as well when
// asked to. The test is skipped when baresip is not installed.
func Listen(t testing.TB, at int, number string) *Telephone {
	t.Helper()
	path := process.Find(t, "baresip", "baresip-core")
	dir := t.TempDir()
	rtp := port.Range(t, 20)
	files := map[string]string{
		"config":   fmt.Sprintf(configuration, at, rtp, rtp+19, "g722.so"),
		"accounts": fmt.Sprintf("<sip:%s@127.0.0.1;transport=udp>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1,PCMA/8000/1\n", number),
		"contacts": "",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &Telephone{address: fmt.Sprintf("127.0.0.1:%d", at)}
	p.Process = process.Start(t, process.Config{
		Name: "baresip", Path: path, Args: []string{"-f", dir, "-s", "-v"}, Dir: dir, Env: []string{"HOME=" + dir},
	})
	p.AwaitOutput(20*time.Second, "baresip is ready")
	return p
}

// Address of the telephone, host:port.
func (p *Telephone) Address() string { return p.address }
