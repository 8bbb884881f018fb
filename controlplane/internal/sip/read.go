package sip

import (
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/dialog"
	"github.com/isthmus-gateway/isthmus/controlplane/internal/sip/header"
)

func sdpOf(m sip.Message) string {
	c, err := contentOf(m)
	if err != nil {
		return ""
	}
	return c.sdp
}

func contactURI(m sip.Message) string {
	c, ok := m.(interface{ Contact() *sip.ContactHeader })
	if !ok {
		return ""
	}
	h := c.Contact()
	if h == nil || h.Address.Wildcard || h.Address.Host == "" {
		return ""
	}
	u := h.Address.Clone()
	u.Headers = nil
	return u.String()
}

// response reads what a dialog needs of a response.
func response(res *sip.Response) dialog.Response {
	r := dialog.Response{
		Signal:        call.Signal{Code: res.StatusCode, Phrase: phrase(res.Reason), Q850: header.Q850(res)},
		ToTag:         header.Tag(res.To().Params),
		Contact:       contactURI(res),
		SupportsTimer: header.Has(res, "Supported", "timer"),
		SDP:           sdpOf(res),
	}
	for _, h := range res.GetHeaders("Record-Route") {
		if rr, ok := h.(*sip.RecordRouteHeader); ok {
			r.RecordRoute = append(r.RecordRoute, rr.Address.String())
		}
	}
	if header.Has(res, "Require", "100rel") {
		r.RSeq, r.Reliable = header.Number(header.First(res, "RSeq"))
		r.Reliable = r.Reliable && r.RSeq > 0
	}
	r.HasAllow, r.AllowsUpdate = allow(res)
	r.SessionExpires, r.Refresher = sessionExpires(res)
	r.MinSE, _ = header.Number(header.First(res, "Min-SE"))
	r.EarlyMedia = early(res)
	if res.StatusCode/100 == 3 {
		for _, v := range header.List(res, "Contact") {
			if _, uri, _, ok := header.NameAddr(v); ok && sipURI(uri) {
				r.Redirects = append(r.Redirects, uri)
			}
		}
	}
	return r
}

// request reads what a dialog needs of a request.
func request(req *sip.Request) dialog.Request {
	c, err := contentOf(req)
	if err != nil {
		c = &content{} // refused before, where that is possible
	}
	r := dialog.Request{
		Method:         string(req.Method),
		Seq:            req.CSeq().SeqNo,
		Body:           c.body(),
		Contact:        contactURI(req),
		Supports100rel: header.Has(req, "Supported", "100rel"),
		Requires100rel: header.Has(req, "Require", "100rel"),
		SupportsTimer:  header.Has(req, "Supported", "timer") || header.Has(req, "Require", "timer"),
		Q850:           header.Q850(req),
		SIPCause:       header.SIPCause(req),
		ReasonText:     reasonText(req),
		InfoPackage:    header.First(req, "Info-Package"),
		ReferredBy:     header.First(req, "Referred-By"),
	}
	if to := header.List(req, "Refer-To"); len(to) == 1 {
		_, r.ReferTo, _, _ = header.NameAddr(to[0])
	}
	if r.Method == "INVITE" || r.Method == "UPDATE" || r.Method == "PRACK" || r.Method == "ACK" {
		r.Body = c.session()
	}
	r.HasAllow, r.AllowsUpdate = allow(req)
	r.SessionExpires, r.Refresher = sessionExpires(req)
	r.MinSE, _ = header.Number(header.First(req, "Min-SE"))
	if f := strings.Fields(header.First(req, "RAck")); len(f) == 3 {
		r.RAckRSeq, _ = header.Number(f[0])
		r.RAckSeq, _ = header.Number(f[1])
		r.RAckMethod = strings.ToUpper(f[2])
	}
	return r
}

func allow(m sip.Message) (present, update bool) {
	return len(header.Values(m, "Allow")) > 0, header.Has(m, "Allow", "UPDATE")
}

func sessionExpires(m sip.Message) (uint32, string) {
	v, params := header.Params(header.First(m, "Session-Expires"))
	n, ok := header.Number(v)
	if !ok || n > 1<<24 {
		return 0, ""
	}
	refresher := strings.ToLower(params["refresher"])
	if refresher != "uac" && refresher != "uas" {
		refresher = ""
	}
	return n, refresher
}

func reasonText(m sip.Message) string {
	for _, v := range header.List(m, "Reason") {
		if _, params := header.Params(v); params["text"] != "" {
			return phrase(params["text"])
		}
	}
	return ""
}

// phrase keeps text of the network printable and short.
func phrase(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "")
	}
	return strings.TrimSpace(s)
}
