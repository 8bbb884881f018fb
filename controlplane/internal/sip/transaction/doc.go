// Package transaction is the transaction layer of RFC 3261 17 with the corrections
// of RFC 6026 (2xx) on the sockets of package tap. It retransmits, absorbs
// retransmissions, and matches responses to requests; callbacks come on the
// goroutine that read the message, so a user sees everything in wire order.
//
//	INVITE client                          other client
//	calling ──1xx──► proceeding            trying ──1xx──► proceeding
//	   │ 2xx ─► accepted (64·T1)             │ final ─► completed (T4) ─► gone
//	   │ 3xx–6xx, ACK ─► completed (D)       │ F: 64·T1 ─► timeout
//	   │ B: 64·T1 ─► timeout
//
//	INVITE server                          other server
//	proceeding ──2xx──► accepted (L)       trying ──1xx──► proceeding
//	   │ 3xx–6xx ─► completed (G, H)         │ final ─► completed (J) ─► gone
//	   │ ACK ─► confirmed (I) ─► gone
//
// It is the project's own because the timers of sipgo's are variables of the
// process, its requests and responses arrive in any order, its 487 to a CANCEL
// carries a To tag of its own, and nothing can stand before it.
package transaction
