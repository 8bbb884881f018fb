package camara

import (
	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// locationView is locationDetails, in answers and events.
type locationView struct {
	Shape       string          `json:"shape,omitempty"`
	Coordinates any             `json:"coordinates,omitempty"`
	Method      string          `json:"method,omitempty"`
	Confidence  *confidenceView `json:"confidence,omitempty"`
	Timestamp   string          `json:"timestamp,omitempty"`
}

type confidenceView struct {
	PDF   string  `json:"pdf,omitempty"`
	Value float64 `json:"value"`
}

type circleView struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Radius    float64 `json:"radius"`
}

type ellipsoidView struct {
	Latitude      float64 `json:"latitude"`
	Longitude     float64 `json:"longitude"`
	ZAxis         float64 `json:"zAxis"`
	SemiMajorAxis float64 `json:"semiMajorAxis"`
	SemiMinorAxis float64 `json:"semiMinorAxis"`
	VerticalAxis  float64 `json:"verticalAxis"`
	Orientation   float64 `json:"orientation"`
}

func viewLocation(l *call.Location) *locationView {
	if l == nil {
		return nil
	}
	v := &locationView{Shape: l.Shape, Method: l.Method, Timestamp: maybeInstant(l.Timestamp)}
	switch {
	case l.Circle != nil:
		v.Coordinates = circleView(*l.Circle)
	case l.Ellipsoid != nil:
		v.Coordinates = ellipsoidView(*l.Ellipsoid)
	}
	if l.Confidence != nil {
		c := confidenceView(*l.Confidence)
		v.Confidence = &c
	}
	return v
}

// parseLocation reads locationDetails; nil when absent. Shape and coordinates
// must agree.
func parseLocation(o object) (*call.Location, error) {
	if o == nil {
		return nil, nil
	}
	l := &call.Location{Shape: o.text("shape"), Method: o.text("method")}
	if c := o.object("coordinates"); c != nil {
		kind := "Ellipsoid"
		if c.has("radius") {
			kind = "Circle"
		}
		if l.Shape != "" && l.Shape != kind {
			return nil, refuse(call.InvalidArgument, "locationDetails.coordinates: are those of shape %s, not of %s.", kind, l.Shape)
		}
		if kind == "Circle" {
			l.Circle = &call.Circle{Latitude: c.number("latitude"), Longitude: c.number("longitude"), Radius: c.number("radius")}
		} else {
			l.Ellipsoid = &call.Ellipsoid{
				Latitude: c.number("latitude"), Longitude: c.number("longitude"), ZAxis: c.number("zAxis"),
				SemiMajorAxis: c.number("semiMajorAxis"), SemiMinorAxis: c.number("semiMinorAxis"),
				VerticalAxis: c.number("verticalAxis"), Orientation: c.number("orientation"),
			}
		}
	}
	if c := o.object("confidence"); c != nil {
		l.Confidence = &call.Confidence{PDF: c.text("pdf"), Value: c.number("value")}
	}
	var err error
	l.Timestamp, err = o.time("timestamp")
	return l, err
}
