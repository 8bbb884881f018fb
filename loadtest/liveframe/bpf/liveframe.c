// SPDX-License-Identifier: Apache-2.0
// A packet generator and its sink, both in XDP.
//
// send runs under BPF_F_TEST_XDP_LIVE_FRAMES: the kernel calls it over and over
// with a fresh page. It drops the page while the next packet is not due, and
// otherwise fills it and has it transmitted. receive is attached to the interface
// where the packets come back; it counts them, one stream at a time, and hands a
// sample of them to user space, which decrypts and compares.
//
// bounce is the least that a node can do with a packet: it sends it back.

#include <linux/bpf.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline)) inline

#define __uint(name, value) int(*name)[value]
#define __type(name, type) type *name

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static __u64 (*const ktime)(void) = (void *)5;
static __s64 (*const csum_diff)(const void *from, __u32 from_size, const void *to, __u32 to_size, __u32 seed) = (void *)28;
static int (*const adjust_tail)(void *ctx, int delta) = (void *)65;
static void *(*const ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*const ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static void (*const ringbuf_discard)(void *data, __u64 flags) = (void *)133;
static int (*const load_bytes)(void *ctx, __u32 offset, void *to, __u32 length) = (void *)189;
static int (*const store_bytes)(void *ctx, __u32 offset, const void *from, __u32 length) = (void *)190;

#define be16(x) __builtin_bswap16(x)
#define be32(x) __builtin_bswap32(x)
#define be64(x) __builtin_bswap64(x)

enum { FRAME = 320, SHORTEST = 54, BUCKETS = 1024, STAMP = 24, RTP = 12 };

// What user space sets before the programs are loaded.
const volatile __u32 streams_used = 1;
const volatile __u32 ring_frames = 1; // a power of two
const volatile __u32 depth_shift = 8; // log2 of the sending times kept for a stream

// A stream whose frames are all alike but for number, time and checksum is made
// here; one that is encrypted comes from the ring, in the order of the streams.
enum { TEMPLATE = 0, RING = 1 };

struct stream {
	__u32 length; // of the frame
	__u32 kind;
	__u32 number;   // of the next packet
	__u32 rtp;      // offset of the RTP header in the frame
	__u32 udp_csum; // offset of the UDP checksum
	__u32 sum;      // of everything that the checksum covers and that stays
	__u32 sequence; // RTP sequence number of packet 0
	__u32 time;     // RTP time stamp at the start of the run
	__u32 clock;    // Hz
	__u32 pad;
	__u8 frame[FRAME];
};

struct frame {
	__u32 length;
	__u32 pad;
	__u8 data[FRAME];
};

struct moment {
	__u64 at; // nanoseconds, CLOCK_MONOTONIC
	__u32 number;
	__u32 seen;
};

struct endpoint {
	__u8 address[16]; // IPv4 as ::ffff:0:0/96
	__u16 port;       // network order
	__u16 pad;
};

struct receiver {
	__u32 stream;
	__u32 ssrc;    // as it arrives; host order
	__u32 delta;   // arriving sequence number minus packet number
	__u32 learned; // ssrc and delta are known
	__u32 highest; // packet number
	__u32 started;
	__s64 transit; // of the packet before
	__u64 received;
	__u64 bytes;
	__u64 duplicates;
	__u64 reordered;
	__u64 stale;   // longer under way than sending times are kept
	__u64 strange; // another SSRC
	__u64 unlearned;
};

struct sample {
	__u64 at;
	__u32 receiver;
	__u32 length;
	__u8 data[FRAME];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stream);
} streams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct frame);
} frames SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct moment);
} moments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct endpoint);
	__type(value, __u32);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct receiver);
} receivers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, __u64);
} latency SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, __u64);
} jitter SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} samples SEC(".maps");

// Set by user space for a run.
volatile __u64 gap;          // between packets, in 1/1024 ns
volatile __u64 limit;        // packets to send
volatile __u64 produced;     // frames put into the ring since the object was loaded
volatile __u32 sample_every; // 0: none
// Kept by send.
volatile __u64 started; // time of the first call; 0 before
volatile __u64 due;     // of the next packet, 1/1024 ns after started
volatile __u64 last;    // packet, likewise
volatile __u64 sent;
volatile __u64 moved;   // how far the schedule was moved, in ns
volatile __u64 starved; // calls that found the ring empty
volatile __u64 consumed;
volatile __u32 cursor; // the stream whose turn it is
// Kept by receive.
volatile __u64 foreign; // RTP of no known endpoint
volatile __u64 oversize;
volatile __u64 unsampled; // samples that found no room
volatile __u32 countdown;

// How late a packet may be before the schedule is moved, in 1/1024 ns.
#define PATIENCE (200000ULL << 10)

INLINE __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

// number writes what differs from one packet of a template to the next.
INLINE int number(struct stream *s, __u64 elapsed, __u64 now)
{
	__u32 rtp = s->rtp, udp = s->udp_csum;
	if (rtp > FRAME - RTP - STAMP || udp > FRAME - 2)
		return -1;
	__u8 *h = s->frame + rtp;
	__u32 ticks = elapsed * s->clock / 1000000000ULL;
	*(__u16 *)(h + 2) = be16((__u16)(s->sequence + s->number));
	*(__u32 *)(h + 4) = be32(s->time + ticks);
	*(__u64 *)(h + RTP + 8) = be64((__u64)s->number);
	*(__u64 *)(h + RTP + 16) = be64(now);
	__u16 sum = ~fold(csum_diff(0, 0, h, RTP + STAMP, s->sum));
	*(__u16 *)(s->frame + udp) = sum ? sum : 0xffff;
	return 0;
}

SEC("xdp")
int send(struct xdp_md *ctx)
{
	__u64 now = ktime();
	if (sent >= limit)
		return XDP_DROP;
	if (!started) {
		started = now;
		due = 0;
		last = 0;
	}
	__u64 at = (now - started) << 10;
	// A late packet may follow the one before at half the distance, not less.
	if (at < due || (last && at < last + gap / 2))
		return XDP_DROP;
	if (at - due > PATIENCE) {
		moved += (at - due) >> 10;
		due = at;
	}

	__u32 id = cursor;
	if (id >= streams_used)
		id = 0;
	struct stream *s = map_lookup(&streams, &id);
	if (!s)
		return XDP_ABORTED;
	const void *from = s->frame;
	__u32 length = s->length;
	if (s->kind == RING) {
		if (consumed >= produced) {
			starved++;
			return XDP_DROP;
		}
		__u32 slot = consumed & (ring_frames - 1);
		struct frame *f = map_lookup(&frames, &slot);
		if (!f)
			return XDP_ABORTED;
		from = f->data;
		length = f->length;
	} else if (number(s, now - started, now)) {
		return XDP_ABORTED;
	}

	if (length < SHORTEST || length > FRAME)
		return XDP_ABORTED;
	int spare = (int)(length - (__u32)(ctx->data_end - ctx->data));
	if (spare && adjust_tail(ctx, spare))
		return XDP_ABORTED;
	if (store_bytes(ctx, 0, from, length))
		return XDP_ABORTED;

	__u32 n = s->number++;
	__u32 key = (id << depth_shift) + (n & ((1U << depth_shift) - 1));
	struct moment *m = map_lookup(&moments, &key);
	if (m) {
		m->at = now;
		m->number = n;
		m->seen = 0;
	}
	if (s->kind == RING)
		consumed++;
	cursor = id + 1 < streams_used ? id + 1 : 0;
	last = at;
	due += gap;
	sent++;
	return XDP_TX;
}

// bucket of a histogram: 32 for each power of two.
INLINE __u32 bucket(__u64 v)
{
	if (v < 32)
		return v;
	if (v >> 36)
		return BUCKETS - 1;
	__u32 e = 0;
	__u64 w = v >> 5;
	if (w >> 16) { e += 16; w >>= 16; }
	if (w >> 8) { e += 8; w >>= 8; }
	if (w >> 4) { e += 4; w >>= 4; }
	if (w >> 2) { e += 2; w >>= 2; }
	if (w >> 1)
		e += 1;
	return ((e + 1) << 5) + ((v >> e) & 31);
}

INLINE void count(void *histogram, __u64 v)
{
	__u32 b = bucket(v);
	__u64 *n = map_lookup(histogram, &b);
	if (n)
		(*n)++;
}

INLINE void hand_up(struct xdp_md *ctx, __u32 id, __u64 now)
{
	__u32 length = ctx->data_end - ctx->data;
	if (length > FRAME || length < SHORTEST - 12) {
		oversize++;
		return;
	}
	struct sample *s = ringbuf_reserve(&samples, sizeof(*s), 0);
	if (!s) {
		unsampled++;
		return;
	}
	s->at = now;
	s->receiver = id;
	s->length = length;
	if (load_bytes(ctx, 0, s->data, length))
		ringbuf_discard(s, 0);
	else
		ringbuf_submit(s, 0);
}

// judge counts a packet of a receiver that is known.
INLINE void judge(struct receiver *r, __u16 sequence, __u64 now)
{
	__u32 n = r->highest + (__s16)((__u16)(sequence - r->delta) - (__u16)r->highest);
	__u32 key = (r->stream << depth_shift) + (n & ((1U << depth_shift) - 1));
	struct moment *m = map_lookup(&moments, &key);
	if (!m || m->number != n) {
		r->stale++;
		return;
	}
	if (m->seen) {
		r->duplicates++;
		return;
	}
	m->seen = 1;
	r->received++;
	if (r->started && (__s32)(n - r->highest) < 0)
		r->reordered++;
	else
		r->highest = n;
	__s64 transit = now - m->at;
	count(&latency, transit);
	if (r->started) {
		__s64 d = transit - r->transit;
		count(&jitter, d < 0 ? -d : d);
	}
	r->transit = transit;
	r->started = 1;
}

SEC("xdp")
int receive(struct xdp_md *ctx)
{
	__u64 now = ktime();
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 *p = data;
	struct endpoint e = {};

	if (data + 42 + RTP > end)
		return XDP_PASS;
	__u16 type = *(__u16 *)(p + 12);
	__u8 *udp;
	if (type == be16(0x0800)) {
		if (p[14] != 0x45 || p[23] != 17)
			return XDP_PASS;
		e.address[10] = e.address[11] = 0xff;
		*(__u32 *)(e.address + 12) = *(__u32 *)(p + 30);
		udp = p + 34;
	} else if (type == be16(0x86dd)) {
		if (data + 62 + RTP > end || p[20] != 17)
			return XDP_PASS;
		__builtin_memcpy(e.address, p + 38, 16);
		udp = p + 54;
	} else {
		return XDP_PASS;
	}
	__u8 *rtp = udp + 8;
	// STUN, DTLS and RTCP go to the sockets.
	if ((rtp[0] & 0xc0) != 0x80 || (rtp[1] >= 192 && rtp[1] <= 223))
		return XDP_PASS;
	e.port = *(__u16 *)(udp + 2);
	__u32 *id = map_lookup(&endpoints, &e);
	if (!id) {
		foreign++;
		return XDP_PASS;
	}
	__u32 key = *id;
	struct receiver *r = map_lookup(&receivers, &key);
	if (!r)
		return XDP_ABORTED;

	r->bytes += end - data;
	__u32 ssrc = be32(*(__u32 *)(rtp + 8));
	if (!r->learned || r->ssrc != ssrc) {
		if (r->learned)
			r->strange++;
		else
			r->unlearned++;
		hand_up(ctx, key, now);
		return XDP_DROP;
	}
	judge(r, be16(*(__u16 *)(rtp + 2)), now);
	if (sample_every && ++countdown >= sample_every) {
		countdown = 0;
		hand_up(ctx, key, now);
	}
	return XDP_DROP;
}

SEC("xdp")
int bounce(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 *p = data;
	if (data + 54 > end)
		return XDP_PASS;
	__u8 protocol = *(__u16 *)(p + 12) == be16(0x0800) ? p[23] : p[20];
	return protocol == 17 ? XDP_TX : XDP_PASS;
}

char apache[] SEC("license") = "Apache-2.0";
