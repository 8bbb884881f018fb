package torture

// Outcome of one message.
type Outcome struct {
	// Reason for which it does not pass validation; empty when it passes.
	Reason string
	// Frame is the reason for which a stream cannot be followed past it.
	Frame string
	// Answer is the status with which it is answered: the refusal, or what a
	// gateway says at first that takes calls and nothing else; 0 for none.
	Answer int
}

// Expected is the outcome of every message. Where the RFCs leave a choice the
// stricter way is taken when a message could be read in two ways, the tolerant one
// when its meaning is plain.
var Expected = map[string]Outcome{
	// Valid, and understood.
	"rfc4475-01-short-tortuous-invite":          {Answer: 481}, // it has a To tag
	"rfc4475-03-percent-escapes":                {Answer: 100},
	"rfc4475-04-escaped-nulls-in-uris":          {Answer: 405},
	"rfc4475-05-percent-when-not-an-escape":     {Answer: 501}, // the method is not REGISTER
	"rfc4475-06-no-space-before-angle-bracket":  {Answer: 200},
	"rfc4475-07-long-values":                    {Answer: 100},
	"rfc4475-08-extra-octets-after-the-message": {Answer: 405},
	"rfc4475-09-semicolons-in-user-part":        {Answer: 200},
	"rfc4475-10-unknown-transports":             {Answer: 200},
	"rfc4475-11-multipart-body":                 {Answer: 405},
	"rfc4475-12-unusual-reason-phrase":          {},
	"rfc4475-13-empty-reason-phrase":            {},
	// Valid by the letter: a quoted NUL in a display name. Nobody who means well
	// sends it, and much that reads it afterwards would end there.
	"rfc4475-02-wide-range-of-valid-characters": {Reason: "header", Answer: 400},

	// Invalid.
	"rfc4475-14-extraneous-separators":                    {Reason: "header", Answer: 400},
	"rfc4475-15-content-length-too-large":                 {Reason: "content_length", Answer: 400},
	"rfc4475-16-negative-content-length":                  {Reason: "content_length", Frame: "content_length", Answer: 400},
	"rfc4475-17-overlarge-scalars-in-a-request":           {Reason: "header", Answer: 400},
	"rfc4475-18-overlarge-scalars-in-a-response":          {Reason: "header"},
	"rfc4475-19-unterminated-quoted-string":               {Reason: "header", Answer: 400},
	"rfc4475-20-angle-brackets-around-request-uri":        {Reason: "uri", Answer: 400},
	"rfc4475-21-space-within-request-uri":                 {Reason: "start_line", Answer: 400},
	"rfc4475-22-several-spaces-in-request-line":           {Reason: "start_line", Answer: 400},
	"rfc4475-23-spaces-at-end-of-request-line":            {Reason: "start_line", Answer: 400},
	"rfc4475-24-escaped-headers-in-request-uri":           {Reason: "uri", Answer: 400},
	"rfc4475-25-invalid-time-zone-in-date":                {Answer: 100}, // nobody reads Date
	"rfc4475-26-uri-parameters-outside-of-angle-brackets": {Reason: "uri", Answer: 400},
	"rfc4475-27-spaces-within-addr-spec":                  {Reason: "header", Answer: 400},
	"rfc4475-28-no-token-in-display-name":                 {Answer: 200}, // its meaning is plain
	"rfc4475-29-unknown-protocol-version":                 {Reason: "version", Answer: 505},
	"rfc4475-30-method-and-cseq-differ":                   {Reason: "cseq", Answer: 400},
	"rfc4475-31-unknown-method-and-cseq-differ":           {Reason: "cseq", Answer: 400},
	"rfc4475-32-overlarge-response-code":                  {Reason: "start_line"},

	// Of the transaction layer and above.
	"rfc4475-33-no-transaction-identifier":               {Reason: "via", Answer: 400},
	"rfc4475-34-mandatory-fields-missing":                {Reason: "missing_header", Answer: 400},
	"rfc4475-35-unknown-request-uri-scheme":              {Reason: "scheme", Answer: 416},
	"rfc4475-36-atypical-request-uri-scheme":             {Reason: "scheme", Answer: 416},
	"rfc4475-37-unknown-schemes-in-fields":               {Answer: 405},
	"rfc4475-38-require-and-proxy-require":               {Answer: 420},
	"rfc4475-39-unknown-content-type":                    {Answer: 415},
	"rfc4475-40-unknown-authorization-scheme":            {Answer: 405},
	"rfc4475-41-several-values-of-single-fields":         {Reason: "duplicate_header", Answer: 400},
	"rfc4475-42-two-content-lengths":                     {Reason: "content_length", Frame: "content_length", Answer: 400},
	"rfc4475-43-broadcast-via-in-a-response":             {},
	"rfc4475-44-max-forwards-zero":                       {Answer: 200}, // it is meant for us
	"rfc4475-45-register-with-contact-parameter":         {Answer: 405},
	"rfc4475-46-register-with-uri-parameter":             {Answer: 405},
	"rfc4475-47-register-with-escaped-header-in-contact": {Answer: 405},
	"rfc4475-48-unacceptable-accept":                     {Answer: 406},
	// No branch, no From tag, no Contact: of a time before RFC 3261.
	"rfc4475-49-invite-of-rfc2543": {Reason: "via", Frame: "content_length", Answer: 400},

	"rfc5118-01-ipv6-reference":                       {Answer: 405},
	"rfc5118-02-ipv6-without-brackets-in-request-uri": {Reason: "header", Answer: 400},
	"rfc5118-03-port-within-the-brackets":             {Answer: 405}, // an address that ends in :5070
	"rfc5118-04-port-after-the-brackets":              {Answer: 405},
	"rfc5118-05-received-with-brackets":               {Answer: 481},
	"rfc5118-06-received-without-brackets":            {Answer: 200},
	"rfc5118-07-ipv6-in-sdp":                          {Answer: 100},
	"rfc5118-08-both-families-in-fields":              {Answer: 481},
	"rfc5118-09-both-families-in-sdp":                 {Answer: 100},
	"rfc5118-10-ipv4-mapped-addresses":                {Answer: 100},
	"rfc5118-11-three-colons":                         {Answer: 200}, // the grammar of RFC 3261 makes it
}
