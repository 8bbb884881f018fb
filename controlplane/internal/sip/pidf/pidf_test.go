package pidf

import (
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

var update = flag.Bool("update", false, "write the golden files")

var at = time.Date(2026, 6, 30, 10, 0, 0, 0, time.UTC)

func circle() call.Location {
	return call.Location{Shape: "Circle", Circle: &call.Circle{Latitude: 52.5, Longitude: 13.4, Radius: 30},
		Method: "GPS", Confidence: &call.Confidence{PDF: "normal", Value: 95}, Timestamp: &at}
}

func ellipsoid() call.Location {
	return call.Location{Shape: "Ellipsoid", Ellipsoid: &call.Ellipsoid{
		Latitude: 42.5463, Longitude: -73.2512, ZAxis: 26.3, SemiMajorAxis: 7.7156, SemiMinorAxis: 3.31, VerticalAxis: 28.7, Orientation: 142},
		Method: "DBH_HELO", Confidence: &call.Confidence{PDF: "uniform", Value: 67.5}, Timestamp: &at}
}

func TestGolden(t *testing.T) {
	for name, d := range map[string]Document{
		"circle-of-an-emergency-call": {Entity: "pres:+15550100@ims.example.com", Location: circle(), Retransmit: true, Expires: at.Add(24 * time.Hour)},
		"ellipsoid":                   {Entity: "pres:+15550100@ims.example.com", Location: ellipsoid(), Expires: at.Add(24 * time.Hour)},
		"point-and-nothing-else":      {Entity: "pres:anonymous@anonymous.invalid", Location: call.Location{Circle: &call.Circle{Latitude: -33.9, Longitude: 151.2}}},
		"certain-beyond-what-can-be-said": {Entity: `pres:"<&'@x`, Location: call.Location{Circle: &call.Circle{Latitude: 1e-7, Longitude: 180, Radius: 1.5e6},
			Method: "Other", Confidence: &call.Confidence{Value: 100}}},
		"confidence-not-known": {Entity: "pres:a@b.example.com", Location: call.Location{Circle: &call.Circle{Radius: 1}, Confidence: &call.Confidence{PDF: "normal"}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := d.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".xml")
			text := strings.ReplaceAll(got, "\r\n", "\n")
			if *update {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if text != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if _, err := Parse([]byte(got)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever is written is read back the same, but for what the format cannot say.
func TestReadsWhatItWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		want := d
		if want.Location.Method == "Other" {
			want.Location.Method = ""
		}
		if c := want.Location.Confidence; c != nil && c.Value == 0 {
			want.Location.Confidence = nil
		} else if c != nil && c.Value > most {
			want.Location.Confidence = &call.Confidence{PDF: c.PDF, Value: most}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v\nwant %+v\n%s", got, want, text)
		}
	})
}

func draw(t *rapid.T) Document {
	instant := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(-1e10, 2e11).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
	size := rapid.Float64Range(0, math.MaxFloat64)
	anything := rapid.Float64()
	latitude, longitude := rapid.Float64Range(-90, 90), rapid.Float64Range(-180, 180)
	d := Document{
		Entity:     rapid.StringMatching(`(pres|sip):[ -~äß☎]{0,20}`).Draw(t, "entity"),
		Retransmit: rapid.Bool().Draw(t, "retransmit"),
	}
	if rapid.Bool().Draw(t, "expires") {
		d.Expires = instant.Draw(t, "expires")
	}
	l := &d.Location
	if rapid.Bool().Draw(t, "circle") {
		l.Shape, l.Circle = "Circle", &call.Circle{Latitude: latitude.Draw(t, "latitude"), Longitude: longitude.Draw(t, "longitude"), Radius: size.Draw(t, "radius")}
	} else {
		l.Shape, l.Ellipsoid = "Ellipsoid", &call.Ellipsoid{Latitude: latitude.Draw(t, "latitude"), Longitude: longitude.Draw(t, "longitude"), ZAxis: anything.Draw(t, "z"),
			SemiMajorAxis: size.Draw(t, "major"), SemiMinorAxis: size.Draw(t, "minor"), VerticalAxis: size.Draw(t, "vertical"), Orientation: anything.Draw(t, "orientation")}
	}
	l.Method = rapid.SampledFrom([]string{"", "GPS", "DBH", "DBH_HELO", "Other"}).Draw(t, "method")
	if rapid.Bool().Draw(t, "confidence") {
		l.Confidence = &call.Confidence{PDF: rapid.SampledFrom([]string{"", "normal", "uniform"}).Draw(t, "pdf"), Value: rapid.Float64Range(0, 100).Draw(t, "value")}
	}
	if rapid.Bool().Draw(t, "timestamp") {
		at := instant.Draw(t, "timestamp")
		l.Timestamp = &at
	}
	return d
}

func TestCannotBeWritten(t *testing.T) {
	for name, l := range map[string]call.Location{
		"no coordinates": {Shape: "Circle", Method: "GPS"},
		"off the globe":  {Circle: &call.Circle{Latitude: 90.1}},
		"not a number":   {Circle: &call.Circle{Longitude: math.NaN()}},
		"no size":        {Circle: &call.Circle{Radius: -1}},
		"endless":        {Ellipsoid: &call.Ellipsoid{SemiMajorAxis: math.Inf(1)}},
	} {
		if text, err := (Document{Location: l}).Marshal(); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
	if _, err := (Document{}).Marshal(); !errors.Is(err, ErrNoShape) {
		t.Errorf("nothing: %v", err)
	}
}

// wrap puts a location-info and what follows it into a document of a tuple.
func wrap(info string) string {
	return `<?xml version="1.0"?><presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10"
 xmlns:gml="http://www.opengis.net/gml" xmlns:gs="http://www.opengis.net/pidflo/1.0" xmlns:ca="urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr"
 xmlns:con="urn:ietf:params:xml:ns:geopriv:conf" entity="sip:x@example.com"><tuple id="a"><status><basic>open</basic><gp:geopriv><gp:location-info>` + info +
		`</gp:location-info><gp:usage-rules><gp:retransmission-allowed>yes</gp:retransmission-allowed></gp:usage-rules><gp:method> gps </gp:method></gp:geopriv></status>
<timestamp>2026-06-30T12:00:00+02:00</timestamp></tuple></presence>`
}

func TestForeignDocuments(t *testing.T) {
	pos := `<gml:pos>  42.5463
 -73.2512 </gml:pos>`
	here := func(radius float64) *call.Circle {
		return &call.Circle{Latitude: 42.5463, Longitude: -73.2512, Radius: radius}
	}
	for name, c := range map[string]struct {
		info string
		want *call.Circle
	}{
		"point":        {`<gml:Point srsName="urn:ogc:def:crs:EPSG::4326">` + pos + `</gml:Point>`, here(0)},
		"solid point":  {`<gml:Point><gml:pos srsName="EPSG:4979">42.5463 -73.2512 26</gml:pos></gml:Point>`, here(0)},
		"old point":    {`<gml:location><gml:Point srsName="EPSG:4326">` + pos + `</gml:Point></gml:location>`, here(0)},
		"circle":       {`<gs:Circle srsName="urn:ogc:def:crs:EPSG::4326">` + pos + `<gs:radius uom="urn:ogc:def:uom:EPSG::9001"> 8.5e2 </gs:radius></gs:Circle>`, here(850)},
		"ellipse":      {`<gs:Ellipse srsName="urn:ogc:def:crs:EPSG::4326">` + pos + `<gs:semiMajorAxis uom="urn:ogc:def:uom:EPSG::9001">1275</gs:semiMajorAxis><gs:semiMinorAxis uom="urn:ogc:def:uom:EPSG::9001">670</gs:semiMinorAxis><gs:orientation uom="urn:ogc:def:uom:EPSG::9102">43.2</gs:orientation></gs:Ellipse>`, here(1275)},
		"sphere":       {`<gs:Sphere srsName="urn:ogc:def:crs:EPSG::4979"><gml:pos>42.5463 -73.2512 26.3</gml:pos><gs:radius uom="urn:ogc:def:uom:EPSG::9001">850.24</gs:radius></gs:Sphere>`, here(850.24)},
		"beside civic": {`<ca:civicAddress><ca:country>DE</ca:country></ca:civicAddress><gs:Circle>` + pos + `<gs:radius>1</gs:radius></gs:Circle>`, here(1)},
		"civic only":   {`<ca:civicAddress><ca:country>DE</ca:country></ca:civicAddress>`, nil},
		"feet":         {`<gs:Circle>` + pos + `<gs:radius uom="urn:ogc:def:uom:EPSG::9002">1</gs:radius></gs:Circle>`, nil},
		"other globe":  {`<gs:Circle srsName="urn:ogc:def:crs:EPSG::3857">` + pos + `<gs:radius>1</gs:radius></gs:Circle>`, nil},
		"no radius":    {`<gs:Circle>` + pos + `</gs:Circle>`, nil},
		"endless":      {`<gs:Circle>` + pos + `<gs:radius>Inf</gs:radius></gs:Circle>`, nil},
		"off":          {`<gml:Point><gml:pos>142 0</gml:pos></gml:Point>`, nil},
		"one number":   {`<gml:Point><gml:pos>42</gml:pos></gml:Point>`, nil},
		"four numbers": {`<gml:Point><gml:pos>1 2 3 4</gml:pos></gml:Point>`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Parse([]byte(wrap(c.info)))
			if c.want == nil {
				if !errors.Is(err, ErrNoShape) {
					t.Fatalf("%+v, %v", d.Location, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := Document{Entity: "sip:x@example.com", Retransmit: true, Location: call.Location{Shape: "Circle", Circle: c.want, Method: "GPS", Timestamp: &at}}
			if !reflect.DeepEqual(d, want) {
				t.Errorf("got %+v of %+v", d, d.Location.Circle)
			}
		})
	}
}

func TestRadiansAndConfidence(t *testing.T) {
	axes := `<gs:semiMajorAxis>3</gs:semiMajorAxis><gs:semiMinorAxis>2</gs:semiMinorAxis><gs:verticalAxis>1</gs:verticalAxis>`
	for value, want := range map[string]*call.Confidence{
		`pdf="rectangular">68`:  {PDF: "uniform", Value: 68},
		`pdf="unknown">68`:      {Value: 68},
		`>68`:                   {Value: 68},
		`pdf="normal">unknown`:  nil,
		`pdf="normal">0`:        nil,
		`pdf="normal">100.0001`: nil,
	} {
		d, err := Parse([]byte(wrap(`<gs:Ellipsoid><gml:pos>1 2 3</gml:pos>` + axes + `<gs:orientation uom="urn:ogc:def:uom:EPSG::9101">3.141592653589793</gs:orientation></gs:Ellipsoid>` +
			`<con:confidence ` + value + `</con:confidence>`)))
		if err != nil {
			t.Fatal(err)
		}
		if e := d.Location.Ellipsoid; *e != (call.Ellipsoid{Latitude: 1, Longitude: 2, ZAxis: 3, SemiMajorAxis: 3, SemiMinorAxis: 2, VerticalAxis: 1, Orientation: 180}) {
			t.Errorf("%+v", e)
		}
		if !reflect.DeepEqual(d.Location.Confidence, want) {
			t.Errorf("%s: %+v", value, d.Location.Confidence)
		}
	}
}

// A device's location comes before the tuple's, the tuple's before the person's,
// and one that cannot be used does not hide the next.
func TestPreference(t *testing.T) {
	geopriv := func(latitude string) string {
		return `<gp:geopriv><gp:location-info><gml:Point><gml:pos>` + latitude + ` 0</gml:pos></gml:Point></gp:location-info><gp:usage-rules/></gp:geopriv>`
	}
	head := `<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model" xmlns:gp="urn:ietf:params:xml:ns:pidf:geopriv10" xmlns:gml="http://www.opengis.net/gml" entity="a">`
	person, tuple := `<dm:person id="p">`+geopriv("3")+`</dm:person>`, `<tuple id="t"><status>`+geopriv("2")+`</status></tuple>`
	for text, want := range map[string]float64{
		person + tuple + `<dm:device id="d">` + geopriv("1") + `</dm:device>`:  1,
		person + tuple + `<dm:device id="d">` + geopriv("91") + `</dm:device>`: 2,
		person: 3,
	} {
		d, err := Parse([]byte(head + text + `</presence>`))
		if err != nil || d.Location.Circle.Latitude != want {
			t.Errorf("%+v, %v; want %v", d.Location.Circle, err, want)
		}
	}
}

func TestNotAPIDF(t *testing.T) {
	for _, text := range []string{
		"", "plain", "<presence/>", `<presence xmlns="urn:ietf:params:xml:ns:pidf">`,
		`<!DOCTYPE x [<!ENTITY a "1">]><presence xmlns="urn:ietf:params:xml:ns:pidf" entity="&a;"/>`,
		`<presence xmlns="urn:ietf:params:xml:ns:pidf"/>` + strings.Repeat(" ", MaxSize),
		strings.Repeat("<a>", 20000),
	} {
		if d, err := Parse([]byte(text)); err == nil {
			t.Errorf("%.80q was read as %+v", text, d)
		}
	}
}

// What can be read can be written, and then stays what it is.
func FuzzParse(f *testing.F) {
	for _, l := range []call.Location{circle(), ellipsoid()} {
		text, err := Document{Entity: "pres:a@b.example.com", Location: l, Expires: at}.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(text))
	}
	f.Add([]byte(wrap(`<gml:location><gml:Point srsName="EPSG:4326"><gml:pos>1 2</gml:pos></gml:Point></gml:location>`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			return
		}
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if d.Location.Method == "Other" {
			d.Location.Method = ""
		}
		if c := d.Location.Confidence; c != nil {
			c.Value = min(c.Value, most)
		}
		if !reflect.DeepEqual(again.Location, d.Location) {
			t.Fatalf("%+v became %+v", d.Location, again.Location)
		}
	})
}
