package dialog

import (
	"fmt"
	"strconv"
	"strings"
)

// target is where a 3xx points to, and which entry of the history sent us there.
type target struct {
	uri    string
	parent int
}

// history is the way that a redirected call has taken, for History-Info (RFC
// 7044): each entry is a Request-URI that was tried, why it led on, and its place
// in the tree of redirections.
type history []visit

type visit struct {
	uri   string
	index string
	// code of the response that led on, 0 for none yet.
	code int
	// children counts the entries below; redirected: reached by a 3xx.
	children   int
	redirected bool
}

// moved takes the Contacts of a 3xx, each once; first is where the call began.
func (c *caller) moved(first string, r Response) {
	if len(c.history) == 0 {
		c.history = history{{uri: first, index: "1"}}
	}
	here := len(c.history) - 1
	c.history[here].code = r.Code
next:
	for _, u := range r.Redirects {
		for _, t := range c.redirects {
			if t.uri == u {
				continue next
			}
		}
		c.redirects = append(c.redirects, target{u, here})
	}
}

// follow adds an entry for the target that is tried now.
func (h *history) follow(t target) {
	parent := &(*h)[t.parent]
	parent.children++
	*h = append(*h, visit{uri: t.uri, index: parent.index + "." + strconv.Itoa(parent.children), redirected: true})
}

// fields is the History-Info of the next INVITE; none for a call that was not
// redirected.
func (h history) fields() []Field {
	var out []Field
	for _, v := range h {
		uri := v.uri
		if v.redirected {
			uri = withParam(uri, "cause=302") // RFC 4458
		}
		if v.code != 0 {
			uri = withHeader(uri, fmt.Sprintf("Reason=SIP%%3Bcause%%3D%d", v.code))
		}
		value := "<" + uri + ">;index=" + v.index
		if v.redirected {
			value += ";mp=" + v.index[:strings.LastIndexByte(v.index, '.')]
		}
		out = append(out, Field{"History-Info", value})
	}
	return out
}

// withParam adds a URI parameter before the URI's headers.
func withParam(uri, param string) string {
	base, headers, found := strings.Cut(uri, "?")
	if !strings.Contains(base, "cause=") {
		base += ";" + param
	}
	if found {
		return base + "?" + headers
	}
	return base
}

func withHeader(uri, h string) string {
	if strings.Contains(uri, "?") {
		return uri + "&" + h
	}
	return uri + "?" + h
}
