// Package sip is the operator's SIP network as the gateway sees it: it implements
// gateway.Network and tells gateway.NetworkEvents what happens.
//
// Its parts, from the wire upwards:
//
//	tap          sockets; every message in wire order, validated (validate)
//	certificate  the certificates of TLS, and whom they prove
//	guard        what one source may send (pure)
//	transaction  RFC 3261 17
//	locate       RFC 3263: names to places, and which of them live
//	dialog       calls as pure state machines: messages in, effects out
//	trunk        the operator's side: routing, identities, numbers (pure)
//	pidf         locations in bodies (pure)
//	registrar    REGISTER clients; digest answers challenges for all
//
// This package joins them. A call has a lock under which its machine takes one
// step at a time and the effects of the step are carried out, so the order on the
// wire is the order of the steps. What the machine tells goes through a queue of
// the call to the gateway, one event at a time, never on a goroutine that reads a
// socket and never with the call's lock held: SIP does not wait for the gateway.
//
// A request is a flight over the places where it can go: to the first that lives,
// and on when that one is dead. For the INVITE that opens a call the machine itself
// goes from leg to leg, which may be on another trunk, as what was given up must be
// cancelled.
//
// Dialogs are known by Call-ID and local tag. Call-ID alone would not do: a call
// from one device of the gateway to another leaves and comes back with the same
// Call-ID when the network is a proxy.
package sip
