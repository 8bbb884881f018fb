// Package dialog is a SIP call as pure state machines: RFC 3261 12 to 15 with
// PRACK (3262), UPDATE (3311), session timers (4028), Reason (3326) and the
// corrections of RFC 6026 and 6141. A Machine takes what happened (a response, a
// request, a timer, a wish of the gateway) and answers the effects: what to send,
// which timers to set, what to tell. It does no I/O and knows no clock, so random
// interleavings of everything can be tried in microseconds.
//
// A call that this side makes:
//
//	Calling ──1xx──► Calling (early dialogs, one per To tag)
//	   │ 2xx: ACK, Answered                │ End: CANCEL once a 1xx came
//	   ▼                                   ▼
//	Confirmed                           Calling, cancelled ──487──► Over
//	                                       │ 2xx: ACK, BYE ──► Leaving
//	   3xx–6xx, timeout: next target, or Over
//
// A call that it receives:
//
//	Ringing ──Accept: 200──► Accepted ──ACK──► Confirmed
//	   │ CANCEL: 200, 487       │ no ACK in 64·T1: BYE ──► Over
//	   │ End: failure           │ End: waits for the ACK, then BYE ──► Leaving
//	   ▼                        ▼
//	  Over                    Leaving
//
// And once it is confirmed:
//
//	Confirmed ──BYE received: 200──► Over
//	    │ End: BYE                     ▲
//	    ▼                              │ answer to the BYE, or none
//	 Leaving ──────────────────────────┘
//
// Within Confirmed one offer is under way at a time: ours (re-INVITE or UPDATE,
// repeated after 491 as RFC 3261 14.1 says) or theirs (told as Offered, answered
// by the gateway, for a re-INVITE closed by the ACK). Before the answer only UPDATE
// can do it, in an early dialog whose offer was answered reliably; of several the
// latest session is heard, and a 199 leaves the ear to the one before:
//
//	early ──reliable 1xx with a description: PRACK──► early, UPDATE possible
//	  │ 199: not heard any more                         │ 199
//	  ▼                                                 ▼
//	dropped (its CSeq stays known) ◄────────────────────┘
//
// A REFER that is followed is under way until Notify tells a final response.
//
// Over is entered once, with one Ended, and nothing is told after it. A machine
// that is over still acknowledges late 2xx, so it must be kept for 64·T1.
package dialog
