// Package relay is the Notification Relay. A CAMARA notification is an HTTP
// request to a sink, which an app on a phone or in a browser cannot receive. The
// relay is a sink for it: the app opens a channel, subscribes with the channel's
// sink URL and credential, and reads what arrives there as a stream. The relay is
// not part of any CAMARA API; it speaks only HTTP with the notifier and could as
// well be run by somebody else.
//
//	POST   /channels                  open (access token); 201 with everything below
//	POST   /channels/{id}/credentials a new sink credential; the old one overlaps
//	POST   /channels/{id}/tickets     a ticket for one stream, used within a minute
//	GET    /channels/{id}/stream      server-sent events (access token or ?ticket=)
//	GET    /channels/{id}/socket      WebSocket (access token, ?ticket=, or a
//	                                  ticket in the first message)
//	DELETE /channels/{id}             close for good
//	POST   /sinks/{secret}            where the notifier delivers (sink credential)
//
// Invariants:
//   - A notification is stored before it is acknowledged, and reaches the stream
//     byte for byte, as one message. One that is delivered again under the same
//     source and id is stored once.
//   - A channel holds what arrives from the moment it is open, so nothing is lost
//     between subscribing and connecting, nor while the app is disconnected.
//   - A channel belongs to the subscriber and application that opened it, and
//     only they can read it. Secrets of the relay are stored as hashes. An access
//     token never is part of a URL, and a stream ends when the token dies with
//     which it was opened.
//   - Several streams may read one channel; each gets everything. Of more than
//     the limit the oldest is ended, as it is most likely one that broke off
//     unnoticed.
//
// A stream resumes after the last event that the reader knows. Server-sent
// events carry a number in their id field, which comes back in Last-Event-ID or,
// with a ticket, in ?lastEventId=. On a WebSocket every message is a bare
// CloudEvent, and the reader names the id of the last one in its first message,
// {"lastEventId": "…"}, or sends {} to begin with the oldest. An id that the
// channel does not know begins with the oldest event too: rather twice than not
// at all.
package relay
