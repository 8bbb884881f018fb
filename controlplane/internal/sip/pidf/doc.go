// Package pidf writes and reads PIDF-LO, the form in which locations travel in SIP
// bodies (RFC 4119 as profiled by RFC 5491, confidence by RFC 7459). It is pure.
//
// A document that is written holds one location of one person: a circle as
// gs:Circle (gml:Point when its radius is 0), an ellipsoid as gs:Ellipsoid. A
// location without coordinates cannot be written, since every PIDF-LO needs some.
//
// A document that is read may come from anybody. The first location in it whose
// shape is known is taken, devices before service tuples before persons; spheres
// and ellipses become the circles around them on the ground. Civic addresses are
// passed over.
//
// Reading what was written gives the same location, with these exceptions, for
// which the format has no words: a method of "Other" becomes none, a confidence of
// 0 becomes none (unknown), one above 99.999 becomes 99.999.
package pidf

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// MaxSize of a document that is read, in bytes.
const MaxSize = 64 << 10

// Document is a PIDF-LO of one location.
type Document struct {
	// Entity is the URI of whose location it is, or one that cannot be linked to
	// anybody.
	Entity   string
	Location call.Location
	// Retransmit allows recipients to pass the location on.
	Retransmit bool
	// Expires is when recipients must forget the location; zero when the document
	// does not say (RFC 4119 2.2.2: 24 hours after the location's timestamp).
	Expires time.Time
}

// ErrNoShape says that a document or location has no coordinates that can be used.
var ErrNoShape = errors.New("no location with known coordinates")

// Namespaces of RFC 3863, 4479, 4119, 5491 and 7459.
const (
	nsPIDF       = "urn:ietf:params:xml:ns:pidf"
	nsModel      = "urn:ietf:params:xml:ns:pidf:data-model"
	nsGeopriv    = "urn:ietf:params:xml:ns:pidf:geopriv10"
	nsPolicy     = "urn:ietf:params:xml:ns:pidf:geopriv10:basicPolicy"
	nsGML        = "http://www.opengis.net/gml"
	nsShape      = "http://www.opengis.net/pidflo/1.0"
	nsConfidence = "urn:ietf:params:xml:ns:geopriv:conf"
)

// Coordinate systems (latitude and longitude, and with height) and units of
// measure, as RFC 5491 5 wants them.
const (
	wgs84Flat  = "urn:ogc:def:crs:EPSG::4326"
	wgs84Solid = "urn:ogc:def:crs:EPSG::4979"
	metre      = "urn:ogc:def:uom:EPSG::9001"
	degree     = "urn:ogc:def:uom:EPSG::9102"
)

// methods are the tokens of the IANA registry "Method Tokens" (RFC 4119 6.1) for
// the methods that the API names.
var methods = map[string]string{"GPS": "GPS", "DBH": "DBH", "DBH_HELO": "DBH_HELO"}

// distributions of RFC 7459 4 by the API's names.
var distributions = map[string]string{"normal": "normal", "uniform": "rectangular"}

// most and the exclusive bound 0 are the range of a confidence (RFC 7459 7), as
// far as it is written.
const most = 99.999

// check refuses coordinates that are not on the globe and sizes that are none.
func check(l call.Location) error {
	finite := func(what string, values ...float64) error {
		for _, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("%s is not a number", what)
			}
		}
		return nil
	}
	place := func(latitude, longitude float64) error {
		if !(math.Abs(latitude) <= 90) || !(math.Abs(longitude) <= 180) {
			return fmt.Errorf("latitude %v, longitude %v: not on the globe", latitude, longitude)
		}
		return nil
	}
	size := func(what string, values ...float64) error {
		for _, v := range values {
			if v < 0 {
				return fmt.Errorf("%s of %v m", what, v)
			}
		}
		return finite(what, values...)
	}
	switch c, e := l.Circle, l.Ellipsoid; {
	case c != nil:
		return errors.Join(place(c.Latitude, c.Longitude), size("radius", c.Radius))
	case e != nil:
		return errors.Join(place(e.Latitude, e.Longitude), finite("height or orientation", e.ZAxis, e.Orientation),
			size("axis", e.SemiMajorAxis, e.SemiMinorAxis, e.VerticalAxis))
	}
	return ErrNoShape
}
