package pidf

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Marshal writes the document. Errors: ErrNoShape, or what is wrong with the
// coordinates.
func (d Document) Marshal() (string, error) {
	if err := check(d.Location); err != nil {
		return "", fmt.Errorf("a location cannot be written as PIDF-LO: %w", err)
	}
	w := &writer{}
	w.line(0, `<?xml version="1.0" encoding="UTF-8"?>`)
	w.line(0, `<presence xmlns="%s"`, nsPIDF)
	for _, ns := range [][2]string{{"dm", nsModel}, {"gp", nsGeopriv}, {"gbp", nsPolicy}, {"gml", nsGML}, {"gs", nsShape}, {"con", nsConfidence}} {
		w.line(2, `xmlns:%s="%s"`, ns[0], ns[1])
	}
	w.line(2, `entity="%s">`, escape(d.Entity))
	w.line(1, `<dm:person id="sender">`)
	w.line(2, `<gp:geopriv>`)
	w.line(3, `<gp:location-info>`)
	w.shape(d)
	w.confidence(d)
	w.line(3, `</gp:location-info>`)
	w.line(3, `<gp:usage-rules>`)
	w.line(4, `<gbp:retransmission-allowed>%t</gbp:retransmission-allowed>`, d.Retransmit)
	if s, ok := instant(d.Expires); ok {
		w.line(4, `<gbp:retention-expiry>%s</gbp:retention-expiry>`, s)
	}
	w.line(3, `</gp:usage-rules>`)
	if m := methods[d.Location.Method]; m != "" {
		w.line(3, `<gp:method>%s</gp:method>`, m)
	}
	w.line(2, `</gp:geopriv>`)
	if t := d.Location.Timestamp; t != nil {
		if s, ok := instant(*t); ok {
			w.line(2, `<dm:timestamp>%s</dm:timestamp>`, s)
		}
	}
	w.line(1, `</dm:person>`)
	w.line(0, `</presence>`)
	return w.String(), nil
}

type writer struct{ strings.Builder }

func (w *writer) line(depth int, format string, args ...any) {
	w.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(w, format, args...)
	w.WriteString("\r\n")
}

func (w *writer) shape(d Document) {
	if c := d.Location.Circle; c != nil {
		name := "gs:Circle"
		if c.Radius == 0 {
			name = "gml:Point" // a circle of RFC 5491 5.2.3 has an extent
		}
		w.line(4, `<%s srsName="%s">`, name, wgs84Flat)
		w.line(5, `<gml:pos>%s %s</gml:pos>`, number(c.Latitude), number(c.Longitude))
		if c.Radius != 0 {
			w.line(5, `<gs:radius uom="%s">%s</gs:radius>`, metre, number(c.Radius))
		}
		w.line(4, `</%s>`, name)
		return
	}
	e := d.Location.Ellipsoid
	w.line(4, `<gs:Ellipsoid srsName="%s">`, wgs84Solid)
	w.line(5, `<gml:pos>%s %s %s</gml:pos>`, number(e.Latitude), number(e.Longitude), number(e.ZAxis))
	w.line(5, `<gs:semiMajorAxis uom="%s">%s</gs:semiMajorAxis>`, metre, number(e.SemiMajorAxis))
	w.line(5, `<gs:semiMinorAxis uom="%s">%s</gs:semiMinorAxis>`, metre, number(e.SemiMinorAxis))
	w.line(5, `<gs:verticalAxis uom="%s">%s</gs:verticalAxis>`, metre, number(e.VerticalAxis))
	w.line(5, `<gs:orientation uom="%s">%s</gs:orientation>`, degree, number(e.Orientation))
	w.line(4, `</gs:Ellipsoid>`)
}

// confidence is left out when there is none, which means 95 % (RFC 7459 4), but a
// confidence of 0 rather stands for one that is not known.
func (w *writer) confidence(d Document) {
	c := d.Location.Confidence
	if c == nil {
		return
	}
	value := "unknown"
	if c.Value > 0 {
		value = number(min(c.Value, most))
	}
	pdf := distributions[c.PDF]
	if pdf == "" {
		pdf = "unknown"
	}
	w.line(4, `<con:confidence pdf="%s">%s</con:confidence>`, pdf, value)
}

// number without exponent, exact.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// instant is an xs:dateTime in UTC, if the time has one.
func instant(t time.Time) (string, bool) {
	t = t.UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return "", false
	}
	return t.Format(time.RFC3339Nano), true
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}
