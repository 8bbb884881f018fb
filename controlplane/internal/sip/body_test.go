package sip

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/gateway"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/pidf"
)

var update = flag.Bool("update", false, "write the golden files")

// bodied is an INVITE with a body of a type.
func bodied(kind, body string, fields ...string) *sip.Request {
	var uri sip.Uri
	if err := sip.ParseUri("sip:+15550100@192.0.2.1", &uri); err != nil {
		panic(err)
	}
	req := sip.NewRequest(sip.INVITE, uri)
	if kind != "" {
		req.AppendHeader(sip.NewHeader("c", kind))
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.AppendHeader(sip.NewHeader(name, value))
	}
	req.SetBody([]byte(body))
	return req
}

// parts is a multipart body with the boundary x.
func parts(parts ...string) string {
	var b strings.Builder
	b.WriteString("This is a preamble.\r\n")
	for _, p := range parts {
		b.WriteString("--x\r\n" + p + "\r\n")
	}
	return b.String() + "--x--\r\nand this an epilogue"
}

const (
	mixed   = `multipart/mixed; boundary="x"`
	sdpPart = "Content-Type: application/sdp\r\n\r\nv=0\r\n"
	isup    = "Content-Type: application/ISUP;version=itu-t92+\r\nContent-Disposition: signal;handling="
)

func TestBodies(t *testing.T) {
	many := slices.Repeat([]string{sdpPart}, maxParts)
	deep := sdpPart
	for range maxDepth {
		deep = "Content-Type: multipart/mixed;boundary=x" + strings.Repeat("y", len(deep)) + "\r\n\r\n" +
			strings.ReplaceAll(parts(deep), "--x", "--x"+strings.Repeat("y", len(deep)))
	}
	for name, c := range map[string]struct {
		req       *sip.Request
		sdp       string
		other     string
		unknown   []string
		locations string
		bad       bool
	}{
		"none":              {req: bodied("", "")},
		"sdp":               {req: bodied("Application/SDP;charset=utf-8", "v=0"), sdp: "v=0"},
		"isup":              {req: bodied("application/isup", "x"), other: "application/isup", unknown: []string{"application/isup"}},
		"optional isup":     {req: bodied("application/isup", "x", "Content-Disposition: signal; Handling=Optional"), other: "application/isup"},
		"pidf":              {req: bodied("application/pidf+xml", "<x/>", "Content-ID: <a@b>"), locations: "a@b"},
		"compressed":        {req: bodied("application/sdp", "v=0", "e: gzip"), bad: true},
		"not compressed":    {req: bodied("application/sdp", "v=0", "e: identity"), sdp: "v=0"},
		"no type":           {req: bodied("///", "v=0"), bad: true},
		"sdp first":         {req: bodied(mixed, parts(sdpPart, isup+"optional\r\n\r\nx")), sdp: "v=0\r\n", other: "application/isup"},
		"sdp last":          {req: bodied(mixed, parts("content-type: application/pidf+xml\r\nContent-Id: <l@x>\r\n\r\n<x/>", isup+"optional\r\n\r\nx", sdpPart)), sdp: "v=0\r\n", other: "application/isup", locations: "l@x"},
		"required isup":     {req: bodied(mixed, parts(sdpPart, isup+"required\r\n\r\nx")), sdp: "v=0\r\n", other: "application/isup", unknown: []string{"application/isup"}},
		"required unsaid":   {req: bodied(mixed, parts(sdpPart, "\r\nplain text")), sdp: "v=0\r\n", other: "text/plain", unknown: []string{"text/plain"}},
		"two of sdp":        {req: bodied(mixed, parts(sdpPart, strings.Replace(sdpPart, "v=0", "v=1", 1))), sdp: "v=0\r\n"},
		"two locations":     {req: bodied(mixed, parts("Content-Type: application/pidf+xml\r\nContent-ID: <1>\r\n\r\n<x/>", "Content-Type: application/pidf+xml\r\n\r\n<x/>")), locations: "1,"},
		"digits":            {req: bodied(mixed, parts("Content-Type: application/dtmf-relay\r\n\r\nSignal=1")), other: "application/dtmf-relay", unknown: []string{"application/dtmf-relay"}},
		"base64":            {req: bodied(mixed, parts("Content-Type: application/sdp\r\nContent-Transfer-Encoding: Base64\r\n\r\ndj0w\r\nDQo=")), sdp: "v=0\r\n"},
		"quoted":            {req: bodied(mixed, parts("Content-Type: application/sdp\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nv=3D0=0D=0A")), sdp: "v=0\r\n"},
		"bad base64":        {req: bodied(mixed, parts("Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\n!")), bad: true},
		"strange encoding":  {req: bodied(mixed, parts("Content-Type: application/sdp\r\nContent-Transfer-Encoding: x-uu\r\n\r\n!")), bad: true},
		"nested":            {req: bodied(mixed, parts("Content-Type: multipart/related;boundary=y\r\n\r\n"+strings.ReplaceAll(parts(sdpPart), "--x", "--y"))), sdp: "v=0\r\n"},
		"optional nest":     {req: bodied(mixed, parts(sdpPart, "Content-Type: multipart/mixed;boundary=y\r\nContent-Disposition: render;handling=optional\r\n\r\n"+strings.ReplaceAll(parts("\r\nhello"), "--x", "--y"))), sdp: "v=0\r\n", other: "text/plain"},
		"alternatives":      {req: bodied("multipart/alternative;boundary=x", parts("Content-Type: application/sdp+json\r\n\r\n{}", sdpPart)), sdp: "v=0\r\n", other: "application/sdp+json"},
		"no alternative":    {req: bodied("multipart/alternative;boundary=x", parts("Content-Type: application/sdp+json\r\n\r\n{}")), other: "application/sdp+json", unknown: []string{"application/sdp+json"}},
		"no boundary":       {req: bodied("multipart/mixed", parts(sdpPart)), bad: true},
		"other boundary":    {req: bodied("multipart/mixed;boundary=z", parts(sdpPart)), bad: true},
		"no part":           {req: bodied(mixed, "--x--\r\n"), bad: true},
		"no last boundary":  {req: bodied(mixed, strings.TrimSuffix(parts(sdpPart), "\r\n--x--\r\nand this an epilogue")), sdp: "v=0"},
		"many parts":        {req: bodied(mixed, parts(many...)), sdp: "v=0\r\n"},
		"too many parts":    {req: bodied(mixed, parts(append(many, sdpPart)...)), bad: true},
		"too deep":          {req: bodied(mixed, parts(deep)), bad: true},
		"lines of unix":     {req: bodied(mixed, strings.ReplaceAll(parts(sdpPart), "\r\n", "\n")), sdp: "v=0\n"},
		"broken part types": {req: bodied(mixed, parts("Content-Type: ;;\r\n\r\nx")), bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := contentOf(c.req)
			if (err != nil) != c.bad {
				t.Fatal(err)
			}
			if c.bad {
				return
			}
			var ids []string
			for _, l := range got.locations {
				ids = append(ids, l.id)
			}
			if got.sdp != c.sdp || got.other.Type != c.other || !slices.Equal(got.unknown, c.unknown) || strings.Join(ids, ",") != c.locations {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// What an INVITE with a location carries, to the byte, and read back.
func TestEnclosedBodies(t *testing.T) {
	at := time.Date(2026, 6, 30, 10, 0, 0, 0, time.UTC)
	for name, l := range map[string]call.Location{
		"offer-and-circle": {Shape: "Circle", Circle: &call.Circle{Latitude: 52.5, Longitude: 13.4, Radius: 30}, Method: "GPS",
			Confidence: &call.Confidence{PDF: "normal", Value: 95}, Timestamp: &at},
		"offer-and-ellipsoid": {Shape: "Ellipsoid", Ellipsoid: &call.Ellipsoid{Latitude: 42.5463, Longitude: -73.2512, ZAxis: 26.3,
			SemiMajorAxis: 7.7156, SemiMinorAxis: 3.31, VerticalAxis: 28.7, Orientation: 142}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := pidf.Document{Entity: "pres:+15550100@ims.example.com", Location: l, Retransmit: true, Expires: at.Add(retention)}.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			b := enclose(crlf(offerSDP), text, "loc@ims.example.com", "isthmus-boundary")
			file := filepath.Join("testdata", "bodies", name+".txt")
			got := strings.ReplaceAll("Content-Type: "+b.Type+"\r\n\r\n"+b.Content, "\r\n", "\n")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			c, err := contentOf(bodied(b.Type, b.Content))
			if err != nil || c.sdp != crlf(offerSDP) || len(c.locations) != 1 || c.locations[0] != (locationPart{"loc@ims.example.com", text}) || len(c.unknown) > 0 {
				t.Errorf("read back as %+v, %v", c, err)
			}
		})
	}
}

// No body makes the reader fail, and its parts are parts of what came.
func FuzzBody(f *testing.F) {
	text, _ := pidf.Document{Location: call.Location{Circle: &call.Circle{Radius: 1}}}.Marshal()
	b := enclose(offerSDP, text, "a@b.example.com", "x")
	f.Add(b.Type, "<cid:a@b.example.com>", b.Content)
	f.Add(mixed, "", parts(sdpPart, isup+"required\r\n\r\nx"))
	f.Add("multipart/alternative;boundary=x", "<cid:%61>, <sip:x@y>", parts("Content-Type: application/pidf+xml\r\nContent-Transfer-Encoding: base64\r\n\r\nPHg+"))
	f.Add("application/pidf+xml", "", text)
	f.Fuzz(func(t *testing.T, kind, geolocation, body string) {
		req := bodied(kind, body, "Geolocation: "+geolocation)
		c, err := contentOf(req)
		if err != nil {
			return
		}
		if len(c.locations) > maxParts+1 || len(c.sdp) > len(body) {
			t.Fatalf("%d locations, %d bytes of SDP of a body of %d", len(c.locations), len(c.sdp), len(body))
		}
		if l, err := callerLocation(req, c, time.Now()); err == nil && l != nil && l.Circle == nil && l.Ellipsoid == nil {
			t.Fatalf("a location without coordinates: %+v", l)
		}
	})
}

func TestCallerLocation(t *testing.T) {
	now := time.Date(2026, 6, 30, 10, 0, 0, 0, time.UTC)
	doc := func(id string, latitude float64, expires time.Time) string {
		text, err := pidf.Document{Location: call.Location{Circle: &call.Circle{Latitude: latitude}}, Expires: expires}.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return "Content-Type: application/pidf+xml\r\nContent-ID: <" + id + ">\r\n\r\n" + text
	}
	body := parts(sdpPart, doc("one@x", 1, time.Time{}), doc("tw%o@x", 2, now.Add(time.Minute)), doc("old@x", 3, now.Add(-time.Minute)),
		"Content-Type: application/pidf+xml\r\nContent-ID: <bad@x>\r\n\r\n<presence/>")
	for _, c := range []struct {
		geolocation string
		want        float64
		fails       bool
	}{
		{"", 1, false},
		{"<CID:tw%25o@x>;inserted-by=\"x\"", 2, false},
		{"<sip:x@y.example.com>, <cid:bad@x>, <cid:one@x>", 1, false},
		{"<cid:old@x>", 0, true},
		{"<cid:none@x>", 0, true},
		{"<https://lis.example.com/x>", 0, true},
	} {
		req := bodied(mixed, body)
		if c.geolocation != "" {
			req.AppendHeader(sip.NewHeader("Geolocation", c.geolocation))
		}
		parsed, err := contentOf(req)
		if err != nil {
			t.Fatal(err)
		}
		l, err := callerLocation(req, parsed, now)
		if (err != nil) != c.fails || !c.fails && l.Circle.Latitude != c.want || c.fails && l != nil {
			t.Errorf("%s: %+v, %v", c.geolocation, l, err)
		}
	}
	if l, err := callerLocation(bodied("", ""), &content{}, now); l != nil || err != nil {
		t.Errorf("no location: %v, %v", l, err)
	}
}

// emergency is an emergency call of the network, with a location.
func emergency(id string) gateway.Invite {
	in := outgoing(id)
	at := time.Date(2026, 6, 30, 10, 0, 0, 0, time.UTC)
	in.Location = &call.Location{Shape: "Circle", Circle: &call.Circle{Latitude: 52.5, Longitude: 13.4, Radius: 30}, Method: "GPS",
		Confidence: &call.Confidence{PDF: "normal", Value: 95}, Timestamp: &at}
	in.Emergency, in.Anonymous, in.DisplayName = true, true, "Ann"
	return in
}

// location is what an INVITE of the network carries, by its Geolocation field.
func (r received) location(t *testing.T) (*content, pidf.Document) {
	t.Helper()
	c, err := contentOf(r.req())
	if err != nil || len(c.locations) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	p, ok := c.location(header.First(r, "Geolocation"))
	if !ok {
		t.Fatalf("Geolocation %q names nothing", header.First(r, "Geolocation"))
	}
	d, err := pidf.Parse([]byte(p.text))
	if err != nil {
		t.Fatal(err)
	}
	return c, d
}
