package ladder

import (
	"encoding/json"
	"strings"
)

// summary is what one looks for first in a message: of SIP the CSeq, and what is
// said of the media; of a milestone its text, when that is one line.
func summary(e Entry) string {
	text := strings.ReplaceAll(e.Text, "\r\n", "\n")
	head, body, _ := strings.Cut(text, "\n\n")
	cseq := field(head, "CSeq")
	if cseq == "" {
		if body != "" && e.From == "device" {
			return wish(body)
		}
		if strings.Contains(text, "\n") || strings.HasPrefix(text, "{") {
			return ""
		}
		return cut(text, 120)
	}
	parts := []string{cseq}
	for _, name := range []string{"Reason", "Warning", "Retry-After", "RAck", "RSeq"} {
		if v := field(head, name); v != "" {
			parts = append(parts, name+": "+v)
		}
	}
	if s := session(body); s != "" {
		parts = append(parts, s)
	}
	return cut(strings.Join(parts, "  "), 240)
}

// wish is what the body of an API request asks for.
func wish(body string) string {
	var b struct {
		Status   string `json:"status"`
		Receiver string `json:"receiverAddress"`
	}
	if json.Unmarshal([]byte(body), &b) != nil {
		return "" // it has none, or none of these
	}
	return cut(strings.TrimSpace(b.Status+" "+b.Receiver), 60)
}

// field is the value of the first header field of a name.
func field(head, name string) string {
	for line := range strings.Lines(head) {
		n, v, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(strings.TrimSpace(n), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// session says of a session description (RFC 8866) which codecs it has, where its
// audio goes, and the direction unless that is both ways.
func session(body string) string {
	var address, port, profile, direction string
	var types []string
	names := map[string]string{"0": "PCMU", "8": "PCMA", "9": "G722", "13": "CN", "18": "G729"}
	other := []string{}
	media := ""
	for line := range strings.Lines(body) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		words := strings.Fields(value)
		switch {
		case key == "m" && len(words) > 3:
			if media = words[0]; media == "audio" && port == "" {
				port, profile, types = words[1], words[2], words[3:]
			} else {
				other = append(other, media+" "+words[1])
			}
		case key == "c" && len(words) > 2 && (media == "" || media == "audio"):
			address = words[2]
		case key == "a" && media == "audio":
			attribute, rest, _ := strings.Cut(value, ":")
			switch attribute {
			case "rtpmap":
				if pt, codec, ok := strings.Cut(rest, " "); ok {
					names[pt], _, _ = strings.Cut(codec, "/")
				}
			case "sendonly", "recvonly", "inactive":
				direction = attribute
			}
		}
	}
	if port == "" {
		return strings.Join(other, " ")
	}
	var codecs []string
	for _, t := range types {
		name := names[t]
		switch name {
		case "":
			name = t
		case "telephone-event":
			name = "keys"
		}
		codecs = append(codecs, name)
	}
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	out := []string{strings.Join(codecs, ",") + " → " + address + ":" + port}
	if strings.Contains(profile, "SAVP") {
		out = append(out, "SRTP")
	}
	if direction != "" {
		out = append(out, direction)
	}
	return strings.Join(append(out, other...), " ")
}
