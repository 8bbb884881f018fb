// Package notify is the Notification Service: it takes recorded events from the
// outbox and delivers them as CloudEvents to the sinks of their subscriptions.
//
// Invariants:
//   - The events of one subscription arrive in the order in which they were
//     recorded, the next one only after the one before it was accepted, refused
//     or given up. The outbox sees to that by letting only the oldest be leased.
//   - A delivery is repeated until one of these is the case, also when a process
//     dies; a sink may thus see an event twice, with the same id.
//   - A slow or dead sink delays nobody else: each origin has a lane of its own
//     with bounded concurrency, two at a time while it fails.
//   - No request leaves for an address that the Guard has not judged at that
//     moment; redirects are not followed; a token that has expired is not sent.
//
// What an answer leads to:
//
//	2xx                        delivered
//	network error, 408, 5xx    again after a growing delay, until the retry window
//	                           is over and the event is given up
//	429                        the same, after Retry-After
//	401                        the subscription ends with ACCESS_TOKEN_EXPIRED
//	410                        the subscription ends silently, its queue is dropped
//	anything else              the event is dropped, a repetition would not help
package notify
