package script

import (
	"fmt"
	"strings"
)

// body of a message that SIPp sends: lines of its own, or a description where one
// is usual.
func (w *writer) body(s Step) (kind string, lines []string) {
	if own := s.All(Body); len(own) > 0 {
		for _, l := range own {
			lines = append(lines, w.p.Expand(l))
		}
		return "application/sdp", lines
	}
	if _, ok := s.Last(NoBody); ok {
		return "", nil
	}
	options, asked := s.Last(SDP)
	usual := s.Code == 0 && s.Method == "INVITE" || s.Method == "INVITE" && (s.Code == 183 || s.Code == 200)
	if !asked && !usual {
		return "", nil
	}
	return "application/sdp", describe(w.p, options)
}

var codecs = map[string]string{
	"0": "PCMU/8000", "8": "PCMA/8000", "9": "G722/8000", "101": "telephone-event/8000", "96": "telephone-event/8000",
	"13": "CN/8000", "18": "G729/8000", "97": "AMR/8000", "98": "AMR-WB/16000", "99": "EVS/16000", "100": "opus/48000/2",
}

// describe makes an offer or answer. The options are words: codecs=0,101 dir=sendonly
// port=far2 address=0.0.0.0 version=2 ptime=30 profile=RTP/SAVP.
func describe(p Place, options string) []string {
	o := map[string]string{"codecs": "0,101", "port": "far", "address": p.IP, "version": "1", "profile": "RTP/AVP"}
	for _, word := range strings.Fields(options) {
		key, value, _ := strings.Cut(word, "=")
		o[key] = value
	}
	port := map[string]string{"far": fmt.Sprint(p.Far), "far2": fmt.Sprint(p.Far2)}[o["port"]]
	if port == "" {
		port = o["port"]
	}
	types := strings.Split(o["codecs"], ",")
	lines := []string{
		"v=0", fmt.Sprintf("o=sipp 53655765 %s IN %s %s", o["version"], p.family(), p.IP), "s=-",
		fmt.Sprintf("c=IN %s %s", p.family(), o["address"]), "t=0 0",
		fmt.Sprintf("m=audio %s %s %s", port, o["profile"], strings.Join(types, " ")),
	}
	for _, t := range types {
		if c := codecs[t]; c != "" {
			lines = append(lines, fmt.Sprintf("a=rtpmap:%s %s", t, c))
			if strings.HasPrefix(c, "telephone-event") {
				lines = append(lines, fmt.Sprintf("a=fmtp:%s 0-15", t))
			}
		}
	}
	if o["ptime"] != "" {
		lines = append(lines, "a=ptime:"+o["ptime"])
	}
	if o["dir"] != "" {
		lines = append(lines, "a="+o["dir"])
	}
	return lines
}
