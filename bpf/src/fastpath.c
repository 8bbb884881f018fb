/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* RTP and SRTP from one leg to another, without passing through user space.
 *
 *	arrive ─▶ find the plan ─▶ may it be taken? ─▶ next hop ─▶ unprotect
 *	       ─▶ take its index ─▶ rewrite ─▶ protect ─▶ send
 *
 * Whatever is not RTP of a plan goes up the ordinary way, XDP_PASS: STUN, DTLS,
 * RTCP, unknown sources and SSRCs, fragments, IP options. */
#include "packet.h"
#include "route.h"
#include "srtp.h"
#include "window.h"

/* The licence that the kernel asks for; see LICENSE for the other one. */
char licence[] SEC("license") = "GPL";

/* User space is away when its heartbeat is older than this. */
#define AWAY 1000000000ULL

/* A timestamp that is this far from the clock is a restart. */
#define CLOCK_SLACK 3000000000LL

#define ETHERNET_MIN 60

inline_ void count(enum cause why)
{
	u32 key = why;
	u64 *n = map_lookup(&causes, &key);
	if (n)
		*n += 1;
}

inline_ struct node *node(void)
{
	u32 zero = 0;
	return map_lookup(&nodes, &zero);
}

/* up hands a packet to user space, if that is there and listens. While it is
 * away the kernel would tell the far end that nobody does, for a port where
 * plans go on, and that would end the call. */
static __attribute__((noinline)) int up(struct xdp_md *ctx, struct bpf_sock_tuple *t, u32 ipv6)
{
	struct node *n = node();
	struct port p = {};
	if (!n)
		return XDP_PASS;
	if (ipv6) {
		__builtin_memcpy(p.addr, t->ipv6.daddr, 16);
		p.port = t->ipv6.dport;
	} else {
		p.addr[0] = t->ipv4.daddr;
		p.port = t->ipv4.dport;
	}
	if (!map_lookup(&ports, &p))
		return XDP_PASS;
	if ((s64)(ktime() - n->heartbeat) < (s64)AWAY) {
		struct bpf_sock *sock = sk_lookup_udp(ctx, t, ipv6 ? sizeof(t->ipv6) : sizeof(t->ipv4), BPF_F_CURRENT_NETNS, 0);
		if (sock) {
			sk_release(sock);
			return XDP_PASS;
		}
	}
	count(DROP_AWAY);
	return XDP_DROP;
}

/* refuse a packet of a plan: XDP_DROP, or XDP_PASS for user space to have it. */
inline_ int refuse(struct flow *f, enum cause why)
{
	count(why);
	switch (why) {
	case DROP_AUTH:
		f->auth_failures++;
		return XDP_DROP;
	case DROP_REPLAY:
		f->replays++;
		return XDP_DROP;
	case DROP_RESIZE:
		return XDP_DROP;
	default:
		f->passed++;
		return XDP_PASS;
	}
}

/* header_len of the RTP packet in buf, whose first len bytes are RTP. 0 if it
 * cannot be. */
inline_ u32 header_len(struct scratch *s, u32 len)
{
	u32 n = sizeof(struct rtp) + 4 * (s->buf[0] & 0x0f);
	if (s->buf[0] & 0x10) {
		if (n + 4 > len)
			return 0;
		n += 4 + 4 * be16(*(u16 *)(s->buf + n + 2));
	}
	return n > len ? 0 : n;
}

/* clock notes when a packet came, for RFC 3550 appendix A.8, and finds clocks
 * that start anew. */
inline_ int clock_jumps(struct flow *f, u32 time, u64 now, int forward)
{
	if (!f->last_seen)
		return 0;
	s64 moved = ((s64)(s32)(time - f->last_time) * f->tick) >> 8;
	s64 elapsed = now - f->last_seen;
	return moved > elapsed + CLOCK_SLACK || (forward && moved < -CLOCK_SLACK);
}

inline_ void clock_note(struct flow *f, u32 time, u64 now)
{
	if (f->last_seen) {
		s64 moved = ((s64)(s32)(time - f->last_time) * f->tick) >> 8;
		s64 d = (s64)(now - f->last_seen) - moved;
		if (d < 0)
			d = -d;
		f->jitter += (d - (s64)f->jitter) >> 4;
	}
	f->last_time = time;
	f->last_seen = now;
}

inline_ u16 fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* payload_sum adds up the first len bytes of buf, and zeros up to 4 after them. */
inline_ u64 payload_sum(struct scratch *s, u32 len)
{
	u64 sum = 0;
	u32 at = 0;
	opaque(len);
	if (len > MAX_RTP)
		return 0;
	*(u32 *)(s->buf + len) = 0;
	u32 left = (len + 3) & ~3;
#pragma unroll
	for (int i = 0; i < (MAX_RTP + 511) / 512; i++) {
		u32 n = left > 512 ? 512 : left;
		if (n == 0)
			break;
		opaque(n);
		if (n > 512)
			break;
		sum += (u32)csum_diff(0, 0, (__be32 *)(s->buf + at), n, 0);
		left -= n;
		at += 512;
	}
	return sum;
}

/* send makes the frame anew around the len bytes in buf, of which the first
 * changed bytes differ from what is in the frame after offset. */
inline_ int send(struct xdp_md *ctx, struct flow *f, struct scratch *s, u32 offset, u32 len, u32 changed)
{
	u32 udp_len = len + sizeof(struct udp);
	u64 sum = f->l4_sum + payload_sum(s, len) + 2ULL * be16((u16)udp_len);
	u32 start; /* of the frame in head */

	struct udp *udp = (struct udp *)(s->head + HEAD - sizeof(*udp));
	udp->src = f->from_port;
	udp->dst = f->to_port;
	udp->len = be16((u16)udp_len);
	udp->check = ~fold(sum);
	if (!udp->check)
		udp->check = 0xffff;
	u64 *l3;
	u16 type;
	if (f->ipv6) {
		start = HEAD - sizeof(*udp) - sizeof(struct ipv6);
		l3 = (u64 *)(s->head + HEAD - sizeof(*udp) - sizeof(struct ipv6));
#pragma unroll
		for (int i = 0; i < 5; i++)
			l3[i] = f->l3[i];
		((struct ipv6 *)l3)->payload = udp->len;
		type = be16(TYPE_IPV6);
	} else {
		start = HEAD - sizeof(*udp) - sizeof(struct ipv4);
		struct ipv4 *ip = (struct ipv4 *)(s->head + HEAD - sizeof(*udp) - sizeof(struct ipv4));
		l3 = (u64 *)ip;
		l3[0] = f->l3[0];
		l3[1] = f->l3[1];
		ip->dst = (u32)f->l3[2];
		ip->total = be16((u16)(udp_len + sizeof(*ip)));
		ip->check = ~fold((u64)f->l3_sum + ip->total);
		type = be16(TYPE_IPV4);
	}
	u8 *p = (u8 *)l3;
	if (f->vlan) {
		p -= sizeof(struct vlan);
		start -= sizeof(struct vlan);
		((struct vlan *)p)->type = type;
		((struct vlan *)p)->tci = be16(f->vlan);
		type = be16(TYPE_VLAN);
	}
	p -= sizeof(struct ethernet);
	start -= sizeof(struct ethernet);
	__builtin_memcpy(p, f->mac, 12);
	((struct ethernet *)p)->type = type;

	u32 headers = HEAD - start;
	u32 frame = headers + len;
	if (frame < ETHERNET_MIN)
		frame = ETHERNET_MIN;
	/* Where a driver leaves no tailroom a longer payload grows into the
	 * headroom, which every driver leaves, and all of it moves. */
	s32 more = (s32)(frame - headers) - ((s32)buff_len(ctx) - (s32)offset);
	s32 head = (s32)offset - (s32)headers;
	if (more && adjust_tail(ctx, more)) {
		if (more < 0)
			return DROP_RESIZE;
		head -= more;
		changed = len;
	}
	if (head && adjust_head(ctx, head))
		return DROP_RESIZE;
	opaque(start);
	opaque(changed);
	if (start > HEAD - sizeof(*udp) || changed > MAX_RTP)
		return DROP_RESIZE;
	u32 write = HEAD - start + changed;
	opaque(write);
	if (write == 0 || write > HEAD + MAX_RTP)
		return DROP_RESIZE;
	if (store_bytes(ctx, 0, s->head + start, write))
		return DROP_RESIZE;
	return FORWARDED;
}

/* forward a packet of a plan. */
static __attribute__((noinline)) int forward(struct xdp_md *ctx, struct flow *f, u32 offset, u32 len)
{
	u32 zero = 0;
	struct scratch *s = map_lookup(&scratches, &zero);
	struct node *n = node();
	struct crypto *in = 0, *out = 0;
	if (!s || !n)
		return XDP_PASS;
	u64 now = ktime();

	u32 tag = tag_len(f->suite_in), tag_out = tag_len(f->suite_out);
	if (len < sizeof(struct rtp) + tag)
		return refuse(f, UP_HEADER);
	if (len > MAX_RTP || len - tag + tag_out > MAX_RTP)
		return refuse(f, UP_SIZE);
	opaque(len);
	if (len < sizeof(struct rtp) || len > MAX_RTP)
		return XDP_PASS;
	if (load_bytes(ctx, offset, s->buf, len))
		return refuse(f, UP_HEADER);
	struct rtp *rtp = (struct rtp *)s->buf;
	u32 payload = f->payloads[rtp->second & 0x7f];
	if (payload > 0x7f)
		return refuse(f, UP_PAYLOAD);
	u32 size = len - tag; /* of the RTP packet */
	u32 header = header_len(s, size);
	if (!header)
		return refuse(f, UP_HEADER);

	s32 ahead;
	u64 index = nearest(f->newest, be16(rtp->sequence), &ahead);
	if (ahead > MAX_AHEAD || ahead < -MAX_BEHIND)
		return refuse(f, UP_SEQUENCE);
	if ((s64)(index - f->start) <= 0)
		return refuse(f, UP_START);
	u32 time = be32(rtp->time);
	if (clock_jumps(f, time, now, ahead > 0))
		return refuse(f, UP_CLOCK);
	int why = seen(f, index);
	if (why != FORWARDED)
		return refuse(f, why);
	if (!route_valid(f, n, now)) {
		why = route(ctx, f, n, now);
		if (why != FORWARDED)
			return refuse(f, why);
	}
	if (size + tag_out + sizeof(struct udp) + (f->ipv6 ? sizeof(struct ipv6) : sizeof(struct ipv4)) > f->mtu)
		return refuse(f, UP_SIZE);

	u32 body = size - header;
	if (tag) {
		u32 key = f->key_in;
		in = map_lookup(&keys, &key);
		if (!in || !unprotect(s, in, header, body, index))
			return refuse(f, DROP_AUTH);
	}
	u32 octets = body;
	if (rtp->first & 0x20) {
		u32 last = size - 1;
		opaque(last);
		if (last > MAX_RTP)
			return refuse(f, UP_HEADER);
		u32 padding = s->buf[last];
		if (padding == 0 || padding > body)
			return refuse(f, UP_HEADER);
		octets -= padding;
	}
	why = take(f, index);
	if (why != FORWARDED)
		return refuse(f, why);

	u64 index_out = index + f->index_offset;
	rtp->second = (rtp->second & 0x80) | payload;
	rtp->sequence = be16((u16)index_out);
	rtp->time = be32(time + f->time_offset);
	rtp->ssrc = be32(f->ssrc);
	u32 changed = tag | tag_out ? size + tag_out : sizeof(struct rtp);
	if (tag_out) {
		u32 key = f->key_out;
		out = map_lookup(&keys, &key);
		if (!out || !protect(s, out, header, body, index_out & 0xffffffffffffULL))
			return refuse(f, DROP_RESIZE);
	}
	why = send(ctx, f, s, offset, size + tag_out, changed);
	if (why != FORWARDED)
		return refuse(f, why);

	if (ahead > 0) {
		f->newest = index;
		clock_note(f, time, now);
	}
	f->packets++;
	f->bytes += len;
	f->sent_bytes += size + tag_out;
	f->octets += octets;
	count(FORWARDED);
	if (f->ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return redirect(f->ifindex, 0);
}

SEC("xdp.frags")
int fastpath(struct xdp_md *ctx)
{
	struct arrival a;
	if (!arrive(ctx, &a))
		return XDP_PASS;
	struct bpf_sock_tuple t;
	if (a.ipv6) {
		struct ipv6 *ip = a.ip;
		__builtin_memcpy(t.ipv6.saddr, ip->src, 16);
		__builtin_memcpy(t.ipv6.daddr, ip->dst, 16);
		t.ipv6.sport = a.udp->src;
		t.ipv6.dport = a.udp->dst;
	} else {
		struct ipv4 *ip = a.ip;
		t.ipv4.saddr = ip->src;
		t.ipv4.daddr = ip->dst;
		t.ipv4.sport = a.udp->src;
		t.ipv4.dport = a.udp->dst;
	}
	struct rtp *rtp = (struct rtp *)(a.udp + 1);
	/* RFC 7983 section 7, RFC 5761 section 4. */
	if ((void *)(rtp + 1) > (void *)(long)ctx->data_end || rtp->first >> 6 != 2 ||
	    (rtp->second >= 192 && rtp->second <= 223))
		return up(ctx, &t, a.ipv6);
	u32 *slot;
	if (a.ipv6) {
		struct key6 key;
		__builtin_memcpy(key.local, t.ipv6.daddr, 16);
		__builtin_memcpy(key.remote, t.ipv6.saddr, 16);
		key.local_port = a.udp->dst;
		key.remote_port = a.udp->src;
		key.ssrc = rtp->ssrc;
		slot = map_lookup(&flows6, &key);
	} else {
		struct key4 key = {
			.local = t.ipv4.daddr, .remote = t.ipv4.saddr,
			.local_port = a.udp->dst, .remote_port = a.udp->src,
			.ssrc = rtp->ssrc,
		};
		slot = map_lookup(&flows4, &key);
	}
	if (!slot)
		return up(ctx, &t, a.ipv6);
	u32 index = *slot;
	struct flow *f = map_lookup(&flows, &index);
	if (!f || f->mode == MODE_FREE || f->mode >= MODE_XSK)
		return XDP_PASS;
	int verdict = forward(ctx, f, a.offset, a.len);
	if (verdict == XDP_PASS)
		return up(ctx, &t, a.ipv6);
	return verdict;
}
