package telco

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/pion/rtp"
)

// dtmfEvents lists the keys by their event code (RFC 4733 section 3.2).
const dtmfEvents = "0123456789*#ABCD"

// takeDigit returns the key of a telephone-event packet that begins an event,
// or 0. An event is known by its timestamp, so one of which only the end
// packets arrive counts as well.
func (m *media) takeDigit(packet *rtp.Packet) byte {
	if len(packet.Payload) < 4 || int(packet.Payload[0]) >= len(dtmfEvents) {
		return 0
	}
	if m.digitHeard && m.digitTS == packet.Timestamp {
		return 0
	}
	m.digitHeard, m.digitTS = true, packet.Timestamp
	return dtmfEvents[packet.Payload[0]]
}

// canSendEvents reports whether telephone-event was agreed on.
func (m *media) canSendEvents() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.events) > 0
}

// sendDigits sends keys as telephone events of 100 ms with pauses of 60 ms.
func (m *media) sendDigits(ctx context.Context, digits string) error {
	m.mu.Lock()
	m.sendingDTMF = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.sendingDTMF, m.out.marker = false, true
		m.mu.Unlock()
	}()
	ticker := time.NewTicker(frame)
	defer ticker.Stop()
	wait := func(frames int) error {
		for range frames {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
	for _, digit := range []byte(strings.ToUpper(digits)) {
		event := strings.IndexByte(dtmfEvents, digit)
		if event < 0 {
			return fmt.Errorf("send DTMF: %q is not a telephone key", digit)
		}
		const frames = 5
		for i := 1; i <= frames+2; i++ { // the last three carry the end bit
			m.sendEvent(byte(event), min(i, frames), i >= frames, i == 1)
			if i < frames {
				if err := wait(1); err != nil {
					return err
				}
			}
		}
		m.mu.Lock()
		m.out.ts += uint32(m.codec.rate / 50 * (frames + 3))
		m.mu.Unlock()
		if err := wait(3); err != nil {
			return err
		}
	}
	return nil
}

// sendEvent sends one packet of an event; its duration counts in frames. The
// timestamp stays that of the start.
func (m *media) sendEvent(event byte, frames int, end, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	payload := []byte{event, 10, 0, 0} // volume -10 dBm0
	if end {
		payload[1] |= 0x80
	}
	binary.BigEndian.PutUint16(payload[2:], uint16(frames*m.codec.rate/50))
	for _, pt := range m.events {
		m.sendLocked(pt, payload, first, m.out.ts)
	}
}

// infoDigit reads the key in the body of an INFO request: application/dtmf-relay
// ("Signal=5") or application/dtmf ("5").
func infoDigit(contentType string, body []byte) (byte, bool) {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	text := strings.ToUpper(string(bytes.TrimSpace(body)))
	switch strings.TrimSpace(kind) {
	case "application/dtmf-relay":
		found := false
		for line := range strings.Lines(text) {
			key, value, _ := strings.Cut(line, "=")
			if strings.TrimSpace(key) == "SIGNAL" {
				text, found = strings.TrimSpace(value), true
				break
			}
		}
		if !found {
			return 0, false
		}
	case "application/dtmf":
	default:
		return 0, false
	}
	if len(text) != 1 || !strings.Contains(dtmfEvents, text) {
		return 0, false
	}
	return text[0], true
}
