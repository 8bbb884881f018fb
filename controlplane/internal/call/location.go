package call

import "time"

// Location of the sender of a request or event (CAMARA locationDetails). At most
// one of Circle and Ellipsoid is set, and it agrees with Shape.
type Location struct {
	// Shape is "Circle" or "Ellipsoid", empty when not given.
	Shape     string
	Circle    *Circle
	Ellipsoid *Ellipsoid
	// Method is GPS, DBH, DBH_HELO or Other.
	Method     string
	Confidence *Confidence
	Timestamp  *time.Time
}

// Circle in WGS 84: degrees and metres.
type Circle struct{ Latitude, Longitude, Radius float64 }

// Ellipsoid in WGS 84: degrees and metres; Orientation in degrees.
type Ellipsoid struct {
	Latitude, Longitude, ZAxis                              float64
	SemiMajorAxis, SemiMinorAxis, VerticalAxis, Orientation float64
}

// Confidence is a percentage, 0 to 100, under a distribution, "normal" or
// "uniform" (RFC 7459).
type Confidence struct {
	PDF   string
	Value float64
}
