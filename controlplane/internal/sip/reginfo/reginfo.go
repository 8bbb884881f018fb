// Package reginfo reads the registration state of an address-of-record as a
// registrar reports it to subscribers of the reg event (RFC 3680): documents of the
// type application/reginfo+xml. It is pure.
package reginfo

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Type is the media type of the documents.
const Type = "application/reginfo+xml"

// Info is one document.
type Info struct {
	// Version counts the documents of a subscription from 0.
	Version uint32
	// Full: it lists everything; otherwise only what changed.
	Full          bool
	Registrations []Registration
}

// Registration of one address-of-record.
type Registration struct {
	AOR string
	// State is init, active or terminated.
	State    string
	Contacts []Contact
}

// Contact is one binding.
type Contact struct {
	URI string
	// State is active or terminated; Event says why: registered, created,
	// refreshed, shortened, expired, deactivated, probation, unregistered or
	// rejected.
	State, Event string
	// Expires is what is left, 0 when not told. RetryAfter is when to try again
	// after probation.
	Expires, RetryAfter time.Duration
}

// maxContacts bounds what is read of one document.
const maxContacts = 1000

type document struct {
	XMLName       xml.Name       `xml:"reginfo"`
	Version       string         `xml:"version,attr"`
	State         string         `xml:"state,attr"`
	Registrations []registration `xml:"registration"`
}

type registration struct {
	AOR      string    `xml:"aor,attr"`
	State    string    `xml:"state,attr"`
	Contacts []contact `xml:"contact"`
}

type contact struct {
	State      string `xml:"state,attr"`
	Event      string `xml:"event,attr"`
	Expires    string `xml:"expires,attr"`
	RetryAfter string `xml:"retry-after,attr"`
	URI        string `xml:"uri"`
}

// Parse reads a document. Unknown elements and attributes are ignored, in any
// namespace, as RFC 3680 asks.
func Parse(text []byte) (Info, error) {
	var d document
	if err := xml.Unmarshal(text, &d); err != nil {
		return Info{}, fmt.Errorf("a reginfo document cannot be read: %w", err)
	}
	version, err := strconv.ParseUint(strings.TrimSpace(d.Version), 10, 32)
	if err != nil {
		return Info{}, errors.New("a reginfo document has no version")
	}
	if d.State != "full" && d.State != "partial" {
		return Info{}, fmt.Errorf("a reginfo document is neither full nor partial but %q", d.State)
	}
	out := Info{Version: uint32(version), Full: d.State == "full"}
	contacts := 0
	for _, r := range d.Registrations {
		reg := Registration{AOR: strings.TrimSpace(r.AOR), State: r.State}
		for _, c := range r.Contacts {
			if contacts++; contacts > maxContacts {
				return Info{}, errors.New("a reginfo document lists too many contacts")
			}
			reg.Contacts = append(reg.Contacts, Contact{
				URI: strings.TrimSpace(c.URI), State: c.State, Event: c.Event,
				Expires: seconds(c.Expires), RetryAfter: seconds(c.RetryAfter),
			})
		}
		out.Registrations = append(out.Registrations, reg)
	}
	return out, nil
}

func seconds(s string) time.Duration {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}
