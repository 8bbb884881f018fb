// Package linphone runs linphone as a telephone of the far end, with files in place
// of a sound card: it plays a tone, and what it hears can be analysed while it is
// written.
package linphone

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/isthmus-gateway/isthmus/deploy/e2e/condition"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/port"
	"github.com/isthmus-gateway/isthmus/deploy/e2e/process"
	"github.com/isthmus-gateway/isthmus/loadtest/tone"
)

// Config of a telephone.
type Config struct {
	// Number is its user part; Port the one it listens on, UDP and TCP, 0 for a
	// free one.
	Number string
	Port   int
	// Hz is the tone that it plays.
	Hz float64
	// AutoAnswer takes every call at once.
	AutoAnswer bool
	// Registrar to register with, host:port, empty for none; Transport to it, and
	// the domain and password of the account there.
	Registrar, Transport, Domain, Password string
}

// Telephone is a running linphonec.
type Telephone struct {
	*process.Process
	t        testing.TB
	keyboard *os.File
	address  string
	record   string
}

var settings = template.Must(template.New("linphonerc").Parse(`[sip]
sip_port={{.Port}}
sip_tcp_port={{.Port}}
sip_tls_port=0
guess_hostname=0
contact="Far end" <sip:{{.Number}}@127.0.0.1>
media_encryption=none
default_proxy={{if .Registrar}}0{{else}}-1{{end}}
inc_timeout=60
[rtp]
audio_rtp_port={{.RTP}}
video_rtp_port=0
text_rtp_port=0
[sound]
echocancellation=0
agc=0
echolimiter=0
remote_ring=
local_ring=
[video]
enabled=0
capture=0
display=0
{{- range $i, $name := .Codecs}}
[audio_codec_{{$i}}]
mime={{$name}}
rate=8000
enabled=1
{{- end}}
[misc]
config_migration_done=1
{{- if .Registrar}}
[proxy_0]
reg_proxy=<sip:{{.Registrar}};transport={{.Transport}}>
reg_identity="Far end" <sip:{{.Number}}@{{.Domain}}>
reg_route=<sip:{{.Registrar}};transport={{.Transport}};lr>
reg_expires=600
reg_sendregister=1
publish=0
[auth_info_0]
username={{.Number}}
passwd={{.Password}}
realm={{.Domain}}
domain={{.Domain}}
{{- end}}
`))

// Start starts a telephone; the test is skipped when linphone is not installed.
func Start(t testing.TB, c Config) *Telephone {
	t.Helper()
	path := process.Find(t, "linphonec", "linphone-cli")
	if c.Port == 0 {
		c.Port = port.Free(t)
	}
	if c.Transport == "" {
		c.Transport = "udp"
	}
	dir := t.TempDir()
	var rc strings.Builder
	err := settings.Execute(&rc, struct {
		Config
		RTP    int
		Codecs []string
	}{c, port.Range(t, 2), []string{"PCMU", "PCMA"}})
	if err != nil {
		t.Fatal(err)
	}
	file, wav := filepath.Join(dir, "linphonerc"), filepath.Join(dir, "tone.wav")
	for name, content := range map[string][]byte{file: []byte(rc.String()), wav: melody(c.Hz)} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Without the place for its database it does not start up.
	if err := os.MkdirAll(filepath.Join(dir, ".local/share/linphone"), 0o700); err != nil {
		t.Fatal(err)
	}
	input, keyboard, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	args := []string{"-c", file, "-S", "-d", "3"}
	if c.AutoAnswer {
		args = append(args, "-a")
	}
	p := &Telephone{
		t: t, keyboard: keyboard, address: fmt.Sprintf("127.0.0.1:%d", c.Port), record: filepath.Join(dir, "heard.wav"),
		Process: process.Start(t, process.Config{
			Name: "linphonec", Path: path, Args: args, Dir: dir, Env: []string{"HOME=" + dir}, Input: input, Quick: true,
		}),
	}
	t.Cleanup(func() { keyboard.Close() })
	for _, command := range []string{"ipv6 disable", "soundcard use files", "play " + wav, "record " + p.record} {
		p.Type(command)
	}
	p.AwaitOutput(20*time.Second, "linphonec> record")
	if c.Registrar != "" {
		p.AwaitOutput(20*time.Second, "[LinphoneRegistrationOk]")
	}
	return p
}

// Address of the telephone, host:port.
func (p *Telephone) Address() string { return p.address }

// Type types a line at the telephone's prompt: call URI, answer, terminate and so
// on.
func (p *Telephone) Type(line string) {
	p.t.Helper()
	if _, err := p.keyboard.WriteString(line + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

// rate of the files, in Hertz.
const rate = 8000

// header is what stands before the samples of a WAV file, in octets.
const header = 44

// melody is a tone of a minute as a WAV file.
func melody(hz float64) []byte {
	samples := make([]int16, 60*rate)
	tone.NewGenerator(rate, tone.DefaultAmplitude, hz).Read(samples)
	var b bytes.Buffer
	b.WriteString("RIFF")
	for _, v := range []any{
		uint32(header - 8 + 2*len(samples)), []byte("WAVEfmt "), uint32(16), uint16(1), uint16(1), uint32(rate), uint32(2 * rate),
		uint16(2), uint16(16), []byte("data"), uint32(2 * len(samples)), samples,
	} {
		_ = binary.Write(&b, binary.LittleEndian, v) // a buffer takes everything
	}
	return b.Bytes()
}

// AwaitTone waits until the last half second that it heard is the tone.
func (p *Telephone) AwaitTone(within time.Duration, hz float64) {
	p.t.Helper()
	condition.Await(p.t, within, fmt.Sprintf("%.0f Hz at linphone", hz), func() error {
		samples, err := p.heard()
		if err != nil {
			return err
		}
		// Its jitter buffer drops and repeats pieces of what it plays when the
		// machine is busy, so the tone is what most of the sound is.
		if a := tone.Dominant(samples, rate); math.Abs(a.Frequency-hz) > 10 || a.Purity < 0.5 {
			return fmt.Errorf("heard %v", a)
		}
		return nil
	})
}

// heard is the last half second of the file that is being written. Its header is
// written at the end of the call only.
func (p *Telephone) heard() ([]int16, error) {
	b, err := os.ReadFile(p.record)
	if err != nil {
		return nil, err
	}
	const n = rate / 2
	if len(b) < header+2*n {
		return nil, fmt.Errorf("only %d octets were written", len(b))
	}
	samples := make([]int16, n)
	b = b[len(b)/2*2-2*n:]
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return samples, nil
}
