// Package bench measures the gateway as it runs in production: the control plane
// and a media node as processes of their own, on PostgreSQL and on SQLite, over
// real HTTP, with a telephone network behind a SIP trunk and an HTTPS sink. It
// reports figures and judges none of them.
//
//   - BenchmarkOperations: the latency of each operation of the APIs, with a few
//     users at once, and whole calls per second.
//   - BenchmarkWebhook: the time from a SIP response on the wire to the first byte
//     of the notification that tells of it, at 50 calls per second.
//   - BenchmarkScale: what 10,000 registrations with 30,000 subscriptions cost, and
//     whether look-ups stay as fast as in an empty store.
//   - BenchmarkSIP: whole calls to a far end that answers at once, with media nodes
//     faked and real: calls a second that a core of the control plane sustains, and
//     the memory of 10,000 calls that are up.
//
// A run measures for a fixed time, whatever -benchtime says; -benchtime 1x is
// what `make bench` uses.
package bench
