// Package crash kills the control plane without notice, over and over, while
// calls are made and taken, registrations and subscriptions come and go, and
// then holds what a sink was told against what happened:
//
//   - every event comes, in order for each subscription, numbered from 1 without
//     a gap for each media session; one that comes again is the last one and the
//     same to the letter,
//   - no event tells of a state that nobody brought about: ringing, an answer or
//     a hang-up that the far end has not sent, a hold that the device has not
//     asked for,
//   - every session that was seen ends with one final event; what was answered
//     before goes on and ends when somebody hangs up,
//   - what the API acknowledged is there afterwards,
//   - no far end stays in a call whose session is over, or goes on ringing for it.
//
// The media node is a process of its own and is not killed. The moments are
// random, most of them a few milliseconds after something has begun. The seed is
// logged; ISTHMUS_CRASH_SEED repeats it as far as processes can be repeated, and
// ISTHMUS_CRASH_KILLS asks for more kills than the usual number.
package crash
