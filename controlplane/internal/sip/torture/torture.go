// Package torture has the messages of RFC 4475 and RFC 5118, by which an
// implementation of SIP is tried: valid ones that look strange, and invalid ones
// that look well. A file holds one message. Its lines end in LF here and in CRLF on
// the wire; what cannot stand in a text is written {{hex 0d0a}}, what is long
// {{repeat 20 text}}, and {{length}} is the number of octets of the body.
package torture

import (
	"bytes"
	"embed"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

//go:embed messages/*.sip
var files embed.FS

// Message as it is on the wire.
type Message struct {
	// Name of its file, without extension.
	Name string
	Raw  []byte
}

var escape = regexp.MustCompile(`\{\{(hex|repeat) ?([0-9]* )?([^}]*)\}\}`)

// Messages lists all messages by name.
func Messages() ([]Message, error) {
	entries, err := files.ReadDir("messages")
	if err != nil {
		return nil, err
	}
	var out []Message
	for _, e := range entries {
		text, err := files.ReadFile(path.Join("messages", e.Name()))
		if err != nil {
			return nil, err
		}
		raw, err := expand(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		out = append(out, Message{Name: strings.TrimSuffix(e.Name(), ".sip"), Raw: raw})
	}
	return out, nil
}

func expand(text string) ([]byte, error) {
	text = strings.ReplaceAll(text, "\n", "\r\n")
	var failed error
	out := escape.ReplaceAllStringFunc(text, func(s string) string {
		m := escape.FindStringSubmatch(s)
		if m[1] == "repeat" {
			n, err := strconv.Atoi(strings.TrimSpace(m[2]))
			if err != nil {
				failed = err
			}
			return strings.Repeat(m[3], n)
		}
		b, err := hex.DecodeString(strings.TrimSpace(m[2] + m[3]))
		if err != nil {
			failed = err
		}
		return string(b)
	})
	head, body, _ := strings.Cut(out, "\r\n\r\n")
	head = strings.ReplaceAll(head, "{{length}}", strconv.Itoa(len(body)))
	raw := []byte(head + "\r\n\r\n" + body)
	if bytes.Contains(raw, []byte("{{")) {
		return nil, fmt.Errorf("an escape was not understood")
	}
	return raw, failed
}
