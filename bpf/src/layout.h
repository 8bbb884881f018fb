/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The maps, and what is in them. User space reads and writes them too, and finds
 * them again after a restart: LAYOUT changes whenever a structure does. */
#pragma once

#include "kernel.h"

/* The largest RTP or SRTP packet that is taken, in bytes. */
#define MAX_RTP 1500

enum layout {
	LAYOUT = 1,
};

enum mode {
	MODE_FREE = 0,
	MODE_RELAY = 1,
	MODE_PROTECT = 2,
	MODE_UNPROTECT = 3,
	MODE_TRANSCRYPT = 4,
	MODE_XSK = 5, /* reserved: to an AF_XDP socket */
};

enum suite {
	SUITE_NONE = 0,
	SUITE_CM_SHA1 = 1,
	SUITE_GCM = 2,
};

/* Why a packet of a plan was not forwarded. */
enum cause {
	FORWARDED,
	UP_PAYLOAD,	/* payload type not mapped */
	UP_START,	/* not above the index that the plan starts from */
	UP_CLOSED,	/* the plan is being taken back */
	UP_SEQUENCE,	/* sequence number jumps */
	UP_CLOCK,	/* timestamp jumps */
	UP_HEADER,	/* truncated, or lengths that cannot be */
	UP_SIZE,	/* larger than MAX_RTP or the MTU */
	UP_ROUTE,	/* no route, no next hop, or over an interface without program */
	UP_FORWARDING,	/* the kernel does not answer: forwarding is off on lo */
	DROP_AUTH,
	DROP_REPLAY,
	DROP_RESIZE,	/* the driver has no room for the longer packet */
	DROP_AWAY,	/* for user space, which is not there */
	CAUSES,
};

struct key4 {
	u32 local, remote;
	u16 local_port, remote_port;
	u32 ssrc;
};

struct key6 {
	u32 local[4], remote[4];
	u16 local_port, remote_port;
	u32 ssrc;
};

/* A local port that plans use; for packets of it when user space is away. */
struct port {
	u32 addr[4];
	u32 port;
};

#define WINDOW 32 /* words of 16 packets each */

/* One plan. User space writes the first part before the packets come. Packets
 * of one flow arrive on one CPU, as long as the network card keeps to its hash;
 * only the window, which must be right, counts on nothing. */
struct flow {
	u8 mode;
	u8 suite_in, suite_out;
	u8 ipv6; /* of the packets sent */
	u32 ssrc;
	u64 start;
	s64 index_offset;
	u32 time_offset;
	u32 tick; /* nanoseconds of a timestamp unit, in 1/256 */
	/* The network header sent: addresses and all else that stays, and the sum
	 * over what of it the checksums cover. */
	u64 l3[5];
	u32 l3_sum, l4_sum;
	u16 from_port, to_port;
	u32 key_in, key_out; /* places in keys */
	u32 reserved;
	u8 payloads[128]; /* 0xff: leave to user space */

	/* Next hop, kept by the program. */
	u64 route_at;
	u32 route_generation;
	u32 ifindex;
	u8 mac[12]; /* destination, source */
	u16 vlan;   /* 0: none */
	u16 mtu;

	/* Where it stands. */
	u64 newest;
	u64 last_seen;
	u32 last_time;
	u32 jitter; /* ns */
	u64 packets, bytes, sent_bytes, octets, auth_failures, replays, passed;

	/* A word has the number of a block of 16 indices in its upper 48 bits, and
	 * which of them were taken in its lower 16. All ones closes it. */
	u64 window[WINDOW];
	u64 reserved_end[6]; /* a multiple of a cache line */
};

/* One direction of SRTP, expanded. */
struct crypto {
	u32 round[56]; /* AES round keys but the last */
	u32 last[4];
	u32 rounds; /* 10 or 14 */
	u32 salt[4]; /* big endian words; the IV before SSRC and index are in */
	u32 inner[5], outer[5]; /* SHA-1 states after the padded HMAC key */
	u32 suite;
	/* GHASH: product of H and each nibble at each of eight places. */
	u64 table[8][16][2];
};

/* The node, one entry. */
struct node {
	u32 layout;
	u32 generation; /* of routes; user space counts it up when they change */
	u64 heartbeat;	/* CLOCK_MONOTONIC, ns */
};

/* An interface that packets may leave through. */
struct egress {
	u32 ifindex; /* that carries the program: a VLAN's parent */
	u16 vlan;
	u16 mtu;
};

struct {
	map_uint(type, BPF_MAP_TYPE_HASH);
	map_type(key, struct key4);
	map_type(value, u32);
	map_uint(max_entries, 1);
} flows4 SEC(".maps");

struct {
	map_uint(type, BPF_MAP_TYPE_HASH);
	map_type(key, struct key6);
	map_type(value, u32);
	map_uint(max_entries, 1);
} flows6 SEC(".maps");

struct {
	map_uint(type, BPF_MAP_TYPE_ARRAY);
	map_uint(map_flags, BPF_F_MMAPABLE);
	map_type(key, u32);
	map_type(value, struct flow);
	map_uint(max_entries, 1);
} flows SEC(".maps");

struct {
	map_uint(type, BPF_MAP_TYPE_ARRAY);
	map_type(key, u32);
	map_type(value, struct crypto);
	map_uint(max_entries, 1);
} keys SEC(".maps");

struct {
	map_uint(type, BPF_MAP_TYPE_HASH);
	map_type(key, struct port);
	map_type(value, u32);
	map_uint(max_entries, 1);
} ports SEC(".maps");

struct {
	map_uint(type, BPF_MAP_TYPE_HASH);
	map_type(key, u32);
	map_type(value, struct egress);
	map_uint(max_entries, 4096);
} egresses SEC(".maps");

struct {
	map_uint(type, BPF_MAP_TYPE_ARRAY);
	map_uint(map_flags, BPF_F_MMAPABLE);
	map_type(key, u32);
	map_type(value, struct node);
	map_uint(max_entries, 1);
} nodes SEC(".maps");

struct {
	map_uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	map_type(key, u32);
	map_type(value, u64);
	map_uint(max_entries, CAUSES);
} causes SEC(".maps");

/* What user space has to know of a plan after a restart, beside the flow. */
struct label {
	u8 session[128], input[64], output[64];
	u8 in[16], out[16]; /* fingerprints of master keys */
	u32 clock_rate;
	u32 reserved;
};

struct {
	map_uint(type, BPF_MAP_TYPE_HASH);
	map_uint(map_flags, BPF_F_NO_PREALLOC);
	map_type(key, u32);
	map_type(value, struct label);
	map_uint(max_entries, 1);
} labels SEC(".maps");

#define HEAD 72	/* room for Ethernet, VLAN, IP and UDP headers */
#define BUFFER 2048

/* Working memory of one packet: the stack has only 512 bytes. The functions that
 * are verified on their own take their arguments here. */
struct scratch {
	u8 head[HEAD];
	/* The RTP packet with room for padding and tag, and from BUFFER on a block
	 * of its own for whatever is not in the packet. */
	u8 buf[BUFFER + 128];
	/* AES in counter mode: what all blocks of a packet have in common. */
	u32 iv[4];
	u32 pre[5];
	/* SHA-1: state and message schedule. */
	u32 h[5];
	u32 w[16];
	u32 reserved[2];
	/* GHASH */
	u64 hi, lo;
};

struct {
	map_uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	map_type(key, u32);
	map_type(value, struct scratch);
	map_uint(max_entries, 1);
} scratches SEC(".maps");

/* So that user space gets these too. */
const enum layout *const layout_ __attribute__((unused)) = 0;
const enum mode *const mode_ __attribute__((unused)) = 0;
const enum suite *const suite_ __attribute__((unused)) = 0;
const enum cause *const cause_ __attribute__((unused)) = 0;
