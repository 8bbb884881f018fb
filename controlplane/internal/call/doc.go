// Package call is the heart of the control plane: registrations, media sessions
// and subscriptions as the CAMARA WebRTC APIs know them, with their rules and
// state machines. It is pure: no I/O, no clock, no randomness of its own, and it
// imports nothing of the project. Every other package speaks in its terms.
//
// A Call has one dialog with the operator's network and one MediaSession per
// device that takes part. A MediaSession goes through these states:
//
//	             Initial
//	                │   183 InProgress · 180 Ringing · 182 Waiting · 181 Proceeding
//	                ▼   (any order, repeats allowed)
//	  ┌─ InProgress/Ringing/Waiting/Proceeding ─┐
//	  │             │                           │
//	  │  2xx        │ 486/600 Busy              │ CANCEL, 487
//	  ▼             │ 603/607 Declined          ▼
//	Connected       │ 404 …   NotReachable    SessionCancelled
//	  ⇅             │ 408 …   NoAnswer
//	Hold            │ else    Failed
//	  │             ▼
//	  └────────► Terminated (BYE either way)
//
// Resume is not a state that lasts: it confirms the way back from Hold, after
// which the session is Connected. The last row and everything on the right is
// final; a final state is entered once and never left.
package call
