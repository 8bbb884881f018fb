// Package gateway holds the use cases: register a device, place a call, answer,
// hold, hang up, subscribe. It knows the rules and the order of things; what it
// needs of the world it declares here as ports (Store, Network, Media, Outbox,
// Tracer), which the adapters implement and the control plane wires.
//
// Two invariants carry everything: a change and the events that tell of it are
// stored in one transaction, and neither SIP nor media ever waits for the
// delivery of an event. A Gateway that dies loses no confirmed call: what it
// takes to go on with one is in the store, and Resume picks it up.
//
// Everything that happens to one call is serialised by that call's lock. The
// lock is not held while the gateway waits for the far end, so a re-INVITE in
// flight does not hold up a BYE.
//
// A call is known to its process, and locked, before the store shows it, and it
// is read from the store only by who has claimed it that way. So a request that
// is quick to follow an event waits for the lock instead of finding half a call.
//
// A call ends in one way only:
//
//	end/hangUp ── leave: Network.End, once ──► Network tells Ended ──► finish
//	                      └── ErrNoDialog ─────────────────────────────► finish
//
// From leave on no request is taken and no media applied; finish gives every
// session that lives its final status, removes the media and stores the events.
// What the store does not take is kept with the call and goes with its next
// change, the end if need be later.
package gateway
