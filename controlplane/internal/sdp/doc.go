// Package sdp negotiates media between a browser, which speaks WebRTC, and the
// operator's core network, which speaks plain RTP. It reads session
// descriptions, computes what may be offered or answered on the other side, and
// writes descriptions. It does no I/O and keeps no state: every function is
// pure, so that any process can go on with any call.
//
// An outgoing call, offer from the browser:
//
//	browser                       gateway                       core network
//	  offer --> ParseWebRTC, OfferToCore(codecs), CoreOffer  --> INVITE
//	            ParseCore, Negotiate(offered, answered)      <-- 183 or 200
//	  answer <- AnswerFor(browser offer, negotiated), WebRTC.Answer
//	            Mappings(browser, core), Mappings(core, browser)
//
// An incoming call is the same in the mirror: ParseCore, OfferToBrowser,
// WebRTCOffer, then ParseWebRTC, Negotiate, AnswerFor, Core.Answer. Later
// offers to the core network, for hold and resume, are Core.Reoffer.
//
// Invariants:
//   - A description of one side never contains an address, a credential or an
//     unknown attribute of the other side: descriptions are composed, not edited.
//   - An answer has the m-lines of its offer, in the same number and order, and
//     refuses with port 0 all but one audio m-line (RFC 3264 6).
//   - An answer contains no codec that was not offered, and no payload type twice.
//   - Strings that come from outside reach a written description only after a
//     check of their grammar: no line can be smuggled in.
//
// The version in the o= line is the caller's: RFC 3264 8 asks that it grows by
// one when, and only when, the description differs from the last one sent.
// Write the description with the last version first; if the text is the one
// sent before, send it again, else write it once more with the next version.
//
// The package has a lexer of its own, because offers from core networks contain
// m-lines (image, udptl), bandwidth types and numbers that the lexer of
// pion/sdp refuses, and RFC 3264 wants those m-lines answered, not the whole
// offer refused.
package sdp
