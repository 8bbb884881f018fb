// Package media loads a target with RTP or SRTP streams and measures what comes
// back.
//
// A Load lists endpoints (a local and a remote address, with keys when packets
// are SRTP) and streams that go from one endpoint through the target to another.
// Every packet says which one it is, and carries a pattern of its stream's own,
// so that losses, duplicates, reordering and corruption are counted whatever the
// target does to RTP headers.
//
// Two drivers run a load: sockets, in batches, which work everywhere and look
// into every packet; and the kernel (Live), which reaches the rates that a node
// with XDP is made for, counts every packet and looks into a sample.
package media
