package pidf

import (
	"encoding/xml"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// The parts of a document that are read. Where RFC 4119 and its examples differ
// about a namespace, any is taken.
type (
	presence struct {
		XMLName xml.Name `xml:"urn:ietf:params:xml:ns:pidf presence"`
		Entity  string   `xml:"entity,attr"`
		Devices []target `xml:"urn:ietf:params:xml:ns:pidf:data-model device"`
		Tuples  []struct {
			Status target `xml:"urn:ietf:params:xml:ns:pidf status"`
			target
		} `xml:"urn:ietf:params:xml:ns:pidf tuple"`
		Persons []target `xml:"urn:ietf:params:xml:ns:pidf:data-model person"`
	}
	target struct {
		Geopriv   *geopriv `xml:"urn:ietf:params:xml:ns:pidf:geopriv10 geopriv"`
		Timestamp string   `xml:"timestamp"`
	}
	geopriv struct {
		Info  info `xml:"urn:ietf:params:xml:ns:pidf:geopriv10 location-info"`
		Rules struct {
			Retransmit string `xml:"retransmission-allowed"`
			Expiry     string `xml:"retention-expiry"`
		} `xml:"urn:ietf:params:xml:ns:pidf:geopriv10 usage-rules"`
		Method string `xml:"urn:ietf:params:xml:ns:pidf:geopriv10 method"`
	}
	info struct {
		Point     *shape `xml:"http://www.opengis.net/gml Point"`
		Circle    *shape `xml:"http://www.opengis.net/pidflo/1.0 Circle"`
		Ellipse   *shape `xml:"http://www.opengis.net/pidflo/1.0 Ellipse"`
		Sphere    *shape `xml:"http://www.opengis.net/pidflo/1.0 Sphere"`
		Ellipsoid *shape `xml:"http://www.opengis.net/pidflo/1.0 Ellipsoid"`
		// Old is how RFC 4119 wrapped a point, before RFC 5491.
		Old struct {
			Point *shape `xml:"http://www.opengis.net/gml Point"`
		} `xml:"http://www.opengis.net/gml location"`
		Confidence *struct {
			PDF   string `xml:"pdf,attr"`
			Value string `xml:",chardata"`
		} `xml:"urn:ietf:params:xml:ns:geopriv:conf confidence"`
	}
	shape struct {
		SRS string `xml:"srsName,attr"`
		Pos struct {
			SRS   string `xml:"srsName,attr"`
			Value string `xml:",chardata"`
		} `xml:"http://www.opengis.net/gml pos"`
		Radius      measure `xml:"http://www.opengis.net/pidflo/1.0 radius"`
		SemiMajor   measure `xml:"http://www.opengis.net/pidflo/1.0 semiMajorAxis"`
		SemiMinor   measure `xml:"http://www.opengis.net/pidflo/1.0 semiMinorAxis"`
		Vertical    measure `xml:"http://www.opengis.net/pidflo/1.0 verticalAxis"`
		Orientation measure `xml:"http://www.opengis.net/pidflo/1.0 orientation"`
	}
	measure struct {
		Unit  string `xml:"uom,attr"`
		Value string `xml:",chardata"`
	}
)

// Parse reads a document. Errors: it is too large, not XML or not a PIDF; or
// ErrNoShape, joined with what was wrong with the shapes that there were.
func Parse(b []byte) (Document, error) {
	if len(b) > MaxSize {
		return Document{}, fmt.Errorf("a PIDF-LO of %d bytes: at most %d are read", len(b), MaxSize)
	}
	var p presence
	if err := xml.Unmarshal(b, &p); err != nil {
		return Document{}, fmt.Errorf("a PIDF-LO cannot be read: %w", err)
	}
	targets := p.Devices
	for _, t := range p.Tuples {
		if t.Status.Geopriv != nil {
			t.Geopriv = t.Status.Geopriv
		}
		targets = append(targets, t.target)
	}
	problem := ErrNoShape
	for _, t := range append(targets, p.Persons...) {
		if t.Geopriv == nil {
			continue
		}
		l, err := t.Geopriv.Info.location()
		if err != nil {
			problem = errors.Join(problem, err)
			continue
		}
		l.Method = method(t.Geopriv.Method)
		if at, ok := parseInstant(t.Timestamp); ok {
			l.Timestamp = &at
		}
		d := Document{Entity: p.Entity, Location: l}
		switch strings.ToLower(strings.TrimSpace(t.Geopriv.Rules.Retransmit)) {
		case "true", "1", "yes":
			d.Retransmit = true
		}
		d.Expires, _ = parseInstant(t.Geopriv.Rules.Expiry)
		return d, nil
	}
	return Document{}, fmt.Errorf("a PIDF-LO cannot be used: %w", problem)
}

// location reads the shape and its confidence.
func (i info) location() (call.Location, error) {
	var l call.Location
	circle := func(s *shape, radius func() (float64, error)) error {
		pos, err := s.position(2, 3)
		if err != nil {
			return err
		}
		r, err := radius()
		l.Shape, l.Circle = "Circle", &call.Circle{Latitude: pos[0], Longitude: pos[1], Radius: r}
		return err
	}
	var err error
	switch {
	case i.Circle != nil:
		err = circle(i.Circle, i.Circle.Radius.metres)
	case i.Ellipsoid != nil:
		err = i.Ellipsoid.ellipsoid(&l)
	case i.Sphere != nil:
		err = circle(i.Sphere, i.Sphere.Radius.metres)
	case i.Ellipse != nil:
		err = circle(i.Ellipse, i.Ellipse.SemiMajor.metres)
	case i.Point != nil:
		err = circle(i.Point, func() (float64, error) { return 0, nil })
	case i.Old.Point != nil:
		err = circle(i.Old.Point, func() (float64, error) { return 0, nil })
	}
	if err == nil {
		err = check(l)
	}
	if err != nil {
		return call.Location{}, err
	}
	if c := i.Confidence; c != nil {
		v, err := strconv.ParseFloat(strings.TrimSpace(c.Value), 64)
		if err == nil && v > 0 && v <= 100 {
			l.Confidence = &call.Confidence{Value: v}
			for name, pdf := range distributions {
				if pdf == c.PDF {
					l.Confidence.PDF = name
				}
			}
		}
	}
	return l, nil
}

func (s *shape) ellipsoid(l *call.Location) error {
	pos, err := s.position(3, 3)
	if err != nil {
		return err
	}
	e := &call.Ellipsoid{Latitude: pos[0], Longitude: pos[1], ZAxis: pos[2]}
	var errs [4]error
	e.SemiMajorAxis, errs[0] = s.SemiMajor.metres()
	e.SemiMinorAxis, errs[1] = s.SemiMinor.metres()
	e.VerticalAxis, errs[2] = s.Vertical.metres()
	e.Orientation, errs[3] = s.Orientation.degrees()
	l.Shape, l.Ellipsoid = "Ellipsoid", e
	return errors.Join(errs[:]...)
}

// position reads gml:pos, least to most numbers, in WGS 84.
func (s *shape) position(least, most int) ([]float64, error) {
	srs := s.SRS
	if s.Pos.SRS != "" {
		srs = s.Pos.SRS
	}
	if code := epsg(srs); srs != "" && code != "4326" && code != "4979" {
		return nil, fmt.Errorf("coordinates in %.80q, not in WGS 84", srs)
	}
	fields := strings.Fields(s.Pos.Value)
	if len(fields) < least || len(fields) > most {
		return nil, fmt.Errorf("a position of %d numbers", len(fields))
	}
	out := make([]float64, len(fields))
	for i, f := range fields {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return nil, fmt.Errorf("a position with %.40q", f)
		}
		out[i] = v
	}
	return out, nil
}

// epsg is the code at the end of an EPSG name, whatever its syntax:
// urn:ogc:def:crs:EPSG::4326, EPSG:4326.
func epsg(name string) string {
	name = strings.TrimSpace(name)
	if i := strings.LastIndexAny(name, ":#/"); i >= 0 && strings.Contains(strings.ToUpper(name[:i]), "EPSG") {
		return name[i+1:]
	}
	return name
}

func (m measure) metres() (float64, error) {
	if code := epsg(m.Unit); code != "" && code != "9001" {
		return 0, fmt.Errorf("a length in %.80q, not in metres", m.Unit)
	}
	return m.number()
}

func (m measure) degrees() (float64, error) {
	v, err := m.number()
	switch epsg(m.Unit) {
	case "", "9102":
		return v, err
	case "9101":
		return v * 180 / math.Pi, err
	}
	return 0, fmt.Errorf("an angle in %.80q, neither in degrees nor radians", m.Unit)
}

func (m measure) number() (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSpace(m.Value), 64)
	if err != nil {
		return 0, fmt.Errorf("%.40q is not a measure", m.Value)
	}
	return v, nil
}

// method of the API for a token of the registry.
func method(token string) string {
	token = strings.TrimSpace(token)
	for name, t := range methods {
		if strings.EqualFold(t, token) {
			return name
		}
	}
	if token == "" {
		return ""
	}
	return "Other"
}

// parseInstant reads an xs:dateTime; one without a zone is taken as UTC.
func parseInstant(s string) (time.Time, bool) {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
