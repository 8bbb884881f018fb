package sip

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

// Media types of the bodies that calls have a use for.
const (
	typeSDP  = "application/sdp"
	typePIDF = "application/pidf+xml"
	// accepted in requests that may bring a session.
	accepted = typeSDP + ", " + typePIDF + ", multipart/mixed"
)

// Bounds of a multipart body, over all its levels.
const (
	maxParts = 16
	maxDepth = 3
)

// content is the body of a message, taken apart (RFC 5621).
type content struct {
	// sdp is the first session description.
	sdp string
	// other is the first part that is neither a session description nor a
	// location, for what reads such things (digits).
	other dialog.Body
	// locations in their order.
	locations []locationPart
	// unknown are the types of parts that the sender requires to be understood,
	// and that only other could do.
	unknown []string

	parts int
}

// locationPart is a PIDF-LO; id is its Content-ID without brackets, empty for none.
type locationPart struct{ id, text string }

// session is the body of a message that may only bring a session.
func (c *content) session() dialog.Body { return dialog.SDP(c.sdp) }

// body is what a method other than those has: the part that is no SDP, or the SDP.
func (c *content) body() dialog.Body {
	if c.other.Type != "" {
		return c.other
	}
	return c.session()
}

var errBody = errors.New("a body that cannot be taken apart")

// contentOf reads a message's body. An error means that it cannot be understood as
// a whole: an unknown encoding, a type that is no type, a multipart that is broken
// or too large.
func contentOf(m sip.Message) (*content, error) {
	c := &content{}
	if len(m.Body()) == 0 {
		return c, nil
	}
	if e := header.First(m, "Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return c, errBody
	}
	return c, c.add(func(name string) string { return header.First(m, name) }, m.Body(), 0, false)
}

// add takes one part. optional is set inside of what may be ignored.
func (c *content) add(field func(name string) string, raw []byte, depth int, optional bool) error {
	kind := field("Content-Type")
	if kind == "" && depth > 0 {
		kind = "text/plain" // RFC 2046 5.1
	}
	media, params, err := mime.ParseMediaType(kind)
	if err != nil {
		return errBody
	}
	// RFC 3261 20.11: a part must be understood unless its sender says otherwise.
	_, disposition := header.Params(field("Content-Disposition"))
	optional = optional || strings.EqualFold(disposition["handling"], "optional")
	switch {
	case strings.HasPrefix(media, "multipart/"):
		return c.split(raw, media, params["boundary"], depth, optional)
	case media == typeSDP:
		if c.sdp == "" {
			c.sdp = string(raw)
		}
	case media == typePIDF:
		c.locations = append(c.locations, locationPart{strings.Trim(field("Content-ID"), "<> "), string(raw)})
	default:
		if c.other.Type == "" {
			c.other = dialog.Body{Type: media, Content: string(raw)}
		}
		if !optional {
			c.unknown = append(c.unknown, media)
		}
	}
	return nil
}

func (c *content) split(raw []byte, media, boundary string, depth int, optional bool) error {
	if boundary == "" || depth >= maxDepth {
		return errBody
	}
	// Of alternatives, one that is understood is enough (RFC 2046 5.1.4).
	alternative := media == "multipart/alternative"
	before := *c
	r := multipart.NewReader(bytes.NewReader(raw), boundary)
	for {
		p, err := r.NextRawPart()
		if err != nil {
			// Also of a last part whose closing boundary is missing: the end of
			// the message ends it as well.
			if c.parts == before.parts || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return errBody
			}
			break
		}
		if c.parts++; c.parts > maxParts {
			return errBody
		}
		text, err := io.ReadAll(p)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return errBody
		}
		if text, err = decode(p.Header.Get("Content-Transfer-Encoding"), text); err != nil {
			return err
		}
		if err := c.add(p.Header.Get, text, depth+1, optional); err != nil {
			return err
		}
	}
	if alternative && (c.sdp != before.sdp || len(c.locations) > len(before.locations)) {
		c.unknown = before.unknown
	}
	return nil
}

func decode(encoding string, text []byte) ([]byte, error) {
	var r io.Reader
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "7bit", "8bit", "binary":
		return text, nil
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text))
	case "quoted-printable":
		r = quotedprintable.NewReader(bytes.NewReader(text))
	default:
		return nil, errBody
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return nil, errBody
	}
	return out, nil
}

// enclose puts a session description and a location into one body (RFC 6442 3.1).
// The location's part may be ignored: no call fails for it.
func enclose(session, location, id, boundary string) dialog.Body {
	part := func(content string, fields ...string) string {
		return "--" + boundary + "\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n" + content + "\r\n"
	}
	return dialog.Body{
		Type: "multipart/mixed;boundary=" + boundary,
		Content: part(session, "Content-Type: "+typeSDP) +
			part(location, "Content-Type: "+typePIDF, "Content-ID: <"+id+">", "Content-Disposition: by-reference;handling=optional") +
			"--" + boundary + "--\r\n",
	}
}
