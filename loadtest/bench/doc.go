// Package bench measures media nodes beside each other on one machine: what a
// forwarded packet costs in CPU time, how many packets a second one core carries,
// and how much later a packet leaves than it came.
//
// Every system has a network namespace of its own, joined to that of the
// generator by a pair of virtual interfaces (veth) with threaded NAPI. The
// generator, its sink and the encryption of what it sends share one CPU; a
// system's process and the kernel thread that receives for it have another, and
// their time (/proc/PID/schedstat) divided by the packets that came back is the
// cost of a packet: receive, transform, send.
//
// So that a busy or virtual machine disturbs little, the threads that receive go
// before everything else on their CPUs, as soft interrupts do, an interface gathers
// packets for up to 50 µs, as network cards do, and a loop of the least priority
// keeps the systems' CPU awake. That is the same for all systems.
//
// A call is two RTP streams of G.711, one each way; with a secure suite one leg
// is SRTP. The rate per stream is raised beyond 50 packets a second so that 500
// calls load a core; RTP time stamps follow the clock. Measurements of the
// systems are interleaved, and of several rounds the median counts. A sample of
// what comes back is decrypted and compared with what was sent.
package bench
