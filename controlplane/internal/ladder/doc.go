// Package ladder keeps the recent messages and milestones of every call, and
// serves them live, so that a page or a terminal can draw the message ladder
// of a call while it happens.
//
// A Ladder is the gateway's Tracer. Trace stores and returns: readers have no
// queue of their own, they read the ring at their own pace and are only woken,
// so a slow or dead reader costs the gateway nothing and misses, at worst, what
// the ring had to let go.
//
// # Correlation
//
// Entries are grouped into records, one per call id. An entry that knows only
// its SIP Call-ID joins the call that has claimed this Call-ID; entries that
// came before the claim join when it is made. An entry without a subscriber's
// number takes that of its record, as soon as the record has one. When two
// calls carry the same SIP Call-ID (two subscribers talking through a proxy
// that passes it on), an entry that knows nothing else belongs to neither.
//
//	entry --call id--------------------------> record --number--> its subscriber
//	      --SIP Call-ID--> claimed by one call -^
//	                    \-> not claimed: a record of its own until it is
//
// # Invariants
//
//   - A subscriber is shown entries of its own number, and no others: an entry
//     whose number is not known is shown on the admin listener only.
//   - The number of entries is bounded in total and for each call; the oldest go.
//   - Places in a stream grow. An entry whose number becomes known late is
//     placed then, so that a reader who resumes after a place misses nothing.
package ladder
