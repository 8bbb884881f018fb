// Package srtp protects and unprotects the packets of one association (RFC 3711,
// RFC 7714), whatever its keys come from: a DTLS handshake or a=crypto lines. It
// has no sockets and no clock.
//
// Invariants:
//   - No two packets are ever protected with the same key, SSRC and index.
//   - An association that is restored on another node goes on after every index
//     that it can have used: indices are never guessed.
//   - What a peer sends cannot make a Transform grow without bound.
package srtp
