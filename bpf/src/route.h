/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The next hop of a plan, from the kernel's routing and neighbour tables. */
#pragma once

#include "layout.h"
#include "packet.h"

/* A next hop is asked for again after this time, and when user space says that
 * something changed. */
#define ROUTE_LIFE 1000000000ULL

#define LOOPBACK 1

inline_ int route_valid(struct flow *f, struct node *n, u64 now)
{
	return f->route_generation == n->generation && (s64)(now - f->route_at) < (s64)ROUTE_LIFE;
}

/* route asks for the next hop. The look-up is made as if the packet came from the
 * loopback interface, as those of local sockets do: so the host need not forward
 * for others. */
static __attribute__((noinline)) int route(struct xdp_md *ctx, struct flow *f, struct node *n, u64 now)
{
	struct bpf_fib_lookup p = {};
	u32 generation = n->generation;

	p.l4_protocol = PROTOCOL_UDP;
	p.sport = f->from_port;
	p.dport = f->to_port;
	p.ifindex = LOOPBACK;
	if (f->ipv6) {
		const u32 *ip = (const u32 *)f->l3;
		p.family = AF_INET6;
		__builtin_memcpy(p.ipv6_src, ip + 2, 16);
		__builtin_memcpy(p.ipv6_dst, ip + 6, 16);
	} else {
		const u32 *ip = (const u32 *)f->l3;
		p.family = AF_INET;
		p.ipv4_src = ip[3];
		p.ipv4_dst = ip[4];
	}
	long result = fib_lookup(ctx, &p, sizeof(p), 0);
	if (result == BPF_FIB_LKUP_RET_FWD_DISABLED)
		return UP_FORWARDING;
	/* The kernel forgets neighbours that it does not send to itself; packets
	 * that pass here do not count. What was right a while ago is better then
	 * than nothing: a change comes with a new generation. */
	if (result == BPF_FIB_LKUP_RET_NO_NEIGH && f->ifindex && f->route_generation == generation) {
		f->route_at = now;
		return FORWARDED;
	}
	if (result != BPF_FIB_LKUP_RET_SUCCESS)
		return UP_ROUTE;
	u32 out = p.ifindex;
	struct egress *e = map_lookup(&egresses, &out);
	if (!e)
		return UP_ROUTE;
	__builtin_memcpy(f->mac, p.dmac, 6);
	__builtin_memcpy(f->mac + 6, p.smac, 6);
	f->vlan = e->vlan;
	f->mtu = e->mtu;
	f->ifindex = e->ifindex;
	f->route_generation = generation;
	f->route_at = now;
	return FORWARDED;
}
