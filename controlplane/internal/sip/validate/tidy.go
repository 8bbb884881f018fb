package validate

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// tidy mends what the parser leaves, so that a message goes on as it was meant:
// spaces around the parts of Via and of parameters (RFC 3261 25.1 allows them
// nearly everywhere), and the brackets of IPv6 addresses with an IPv4 end, which
// the parser takes off and does not know to write.
func tidy(m sip.Message) {
	f, ok := m.(interface{ Headers() []sip.Header })
	if !ok {
		return
	}
	for _, h := range f.Headers() {
		switch h := h.(type) {
		case *sip.ViaHeader:
			h.Transport = strings.TrimSpace(h.Transport)
			tidyHost(&h.Host)
			tidyParams(&h.Params)
		case *sip.FromHeader:
			tidyHost(&h.Address.Host)
			tidyParams(&h.Params)
		case *sip.ToHeader:
			tidyHost(&h.Address.Host)
			tidyParams(&h.Params)
		case *sip.ContactHeader:
			tidyHost(&h.Address.Host)
			tidyParams(&h.Params)
		case *sip.RouteHeader:
			tidyHost(&h.Address.Host)
		case *sip.RecordRouteHeader:
			tidyHost(&h.Address.Host)
		}
	}
	if req, ok := m.(*sip.Request); ok {
		tidyHost(&req.Recipient.Host)
	}
}

func tidyHost(host *string) {
	*host = strings.TrimSpace(*host)
	if strings.Contains(*host, ":") && strings.Contains(*host, ".") && !strings.HasPrefix(*host, "[") {
		*host = "[" + *host + "]"
	}
}

func tidyParams(params *sip.HeaderParams) {
	spaces := false
	for _, p := range *params {
		spaces = spaces || p.K == "" || strings.TrimSpace(p.K) != p.K || strings.TrimSpace(p.V) != p.V
	}
	if !spaces {
		return
	}
	var out sip.HeaderParams
	for _, p := range *params {
		if k := strings.TrimSpace(p.K); k != "" {
			out.Add(k, strings.TrimSpace(p.V))
		}
	}
	*params = out
}
