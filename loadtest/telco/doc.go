// Package telco is a simulated telephone network: the operator's side of a SIP
// interconnect, with subscribers, demo numbers and people who call. The
// all-in-one gateway uses it as its network, tests use it as the far end.
//
// A Network listens on one UDP and one TCP address. It is
//
//   - a registrar with digest authentication (RFC 3261 section 10, RFC 7616),
//   - a set of numbers, each played by a scenario (echo, tone, busy, …),
//   - a switch between subscribers: a call from one subscriber of the gateway
//     to another goes back to the gateway as a second call, with the session
//     descriptions passed through untouched,
//   - a caller that rings a subscriber on request.
//
// It stands on the transports and transactions of sipgo; dialogs are its own
// (a leg is one dialog and one INVITE session), because it must keep the order
// of responses, which it takes from the transport's read path.
//
// # A leg
//
//	         INVITE received                    INVITE sent
//	               |                                 |
//	               v        18x (+PRACK)             v
//	reject <--- early <-----------------+       early ---> failed (3xx-6xx, timeout)
//	               |  200, repeated     |            | 200: ACK
//	               v  until ACK         +            v
//	            confirmed <-- re-INVITE, UPDATE, INFO --> confirmed
//	               |                                      |
//	               +------------- BYE either way ---------+
//	                                |
//	                              ended
//
// Invariants: a leg ends exactly once and its context is cancelled with it; a
// leg's media stop with the leg; every goroutine of a Network ends before Run
// returns; a 2xx is repeated until its ACK and given up with a BYE after 64·T1.
package telco
