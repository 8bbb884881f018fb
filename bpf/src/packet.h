/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Headers as they are on the wire, and how an arriving packet is read. */
#pragma once

#include "kernel.h"

struct ethernet {
	u8 dst[6], src[6];
	u16 type;
};

struct vlan {
	u16 tci;
	u16 type;
};

struct ipv4 {
	u8 version_length, tos;
	u16 total;
	u16 id, fragment;
	u8 ttl, protocol;
	u16 check;
	u32 src, dst;
};

struct ipv6 {
	u32 version_flow;
	u16 payload;
	u8 next, hops;
	u32 src[4], dst[4];
};

struct udp {
	u16 src, dst;
	u16 len, check;
};

struct rtp {
	u8 first, second;
	u16 sequence;
	u32 time;
	u32 ssrc;
};

#define TYPE_IPV4 0x0800
#define TYPE_IPV6 0x86dd
#define TYPE_VLAN 0x8100
#define TYPE_QINQ 0x88a8
#define PROTOCOL_UDP 17

#define AF_INET 2
#define AF_INET6 10

/* What may stand before the UDP payload: an Ethernet header, a VLAN tag, an IP
 * header without options or extension headers, no fragment. */
struct arrival {
	void *ip;
	u32 ipv6;
	struct udp *udp;
	u32 offset; /* of the UDP payload */
	u32 len;    /* of the UDP payload */
};

/* arrive reads the headers up to UDP; 0 for all that is not of the shape above. */
inline_ int arrive(struct xdp_md *ctx, struct arrival *a)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethernet *eth = data;
	if ((void *)(eth + 1) > end)
		return 0;
	u16 type = eth->type;
	void *next = eth + 1;
	u32 offset = sizeof(*eth);
	if (type == be16(TYPE_VLAN) || type == be16(TYPE_QINQ)) {
		struct vlan *tag = next;
		if ((void *)(tag + 1) > end)
			return 0;
		type = tag->type;
		next = tag + 1;
		offset += sizeof(*tag);
	}
	u32 total;
	if (type == be16(TYPE_IPV4)) {
		struct ipv4 *ip = next;
		if ((void *)(ip + 1) > end)
			return 0;
		if (ip->version_length != 0x45 || ip->protocol != PROTOCOL_UDP || (ip->fragment & be16(0x3fff)))
			return 0;
		a->ip = ip;
		a->ipv6 = 0;
		total = be16(ip->total) - (u32)sizeof(*ip);
		next = ip + 1;
		offset += sizeof(*ip);
	} else if (type == be16(TYPE_IPV6)) {
		struct ipv6 *ip = next;
		if ((void *)(ip + 1) > end)
			return 0;
		if ((ip->version_flow & be32(0xf0000000)) != be32(0x60000000) || ip->next != PROTOCOL_UDP)
			return 0;
		a->ip = ip;
		a->ipv6 = 1;
		total = be16(ip->payload);
		next = ip + 1;
		offset += sizeof(*ip);
	} else {
		return 0;
	}
	struct udp *udp = next;
	if ((void *)(udp + 1) > end)
		return 0;
	u32 len = be16(udp->len);
	if (len != total || len < sizeof(*udp))
		return 0;
	a->udp = udp;
	a->offset = offset + sizeof(*udp);
	a->len = len - sizeof(*udp);
	return 1;
}
