/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* HMAC-SHA1 (RFC 2104, FIPS 180-4) from states that have the key in already. */
#pragma once

#include "layout.h"

inline_ u32 rotate(u32 x, u32 n)
{
	return x << n | x >> (32 - n);
}

#define CHOOSE(b, c, d) (d ^ (b & (c ^ d)))
#define PARITY(b, c, d) (b ^ c ^ d)
#define MAJORITY(b, c, d) ((b & c) + (d & (b ^ c)))

#define ROUND(a, b, c, d, e, f, key, word)              \
	do {                                            \
		e += rotate(a, 5) + f(b, c, d) + (key) + (word); \
		b = rotate(b, 30);                      \
	} while (0)

#define FIVE(f, key, word, n)                            \
	ROUND(a, b, c, d, e, f, key, word((n)));         \
	ROUND(e, a, b, c, d, f, key, word((n) + 1));     \
	ROUND(d, e, a, b, c, f, key, word((n) + 2));     \
	ROUND(c, d, e, a, b, f, key, word((n) + 3));     \
	ROUND(b, c, d, e, a, f, key, word((n) + 4))

inline_ u32 sha1_load(const volatile u32 *from, volatile u32 *w, int n)
{
	u32 x = be32(from[n]);
	w[n] = x;
	return x;
}

inline_ u32 sha1_next(volatile u32 *w, int n)
{
	u32 x = rotate(w[(n - 3) & 15] ^ w[(n - 8) & 15] ^ w[(n - 14) & 15] ^ w[n & 15], 1);
	w[n & 15] = x;
	return x;
}

#define LOAD(n) sha1_load(p, w, n)
#define NEXT(n) sha1_next(w, n)

/* sha1 takes the 64 bytes of buf at at. The schedule is volatile, as the compiler
 * would otherwise keep all of it on the stack, which is too small. */
global_ int sha1(struct scratch *s, u32 at)
{
	if (!s || at > BUFFER)
		return 0;
	const volatile u32 *p = (const volatile u32 *)(s->buf + at);
	volatile u32 *w = s->w;
	u32 a = s->h[0], b = s->h[1], c = s->h[2], d = s->h[3], e = s->h[4];
	FIVE(CHOOSE, 0x5a827999, LOAD, 0);
	FIVE(CHOOSE, 0x5a827999, LOAD, 5);
	FIVE(CHOOSE, 0x5a827999, LOAD, 10);
	ROUND(a, b, c, d, e, CHOOSE, 0x5a827999, LOAD(15));
	ROUND(e, a, b, c, d, CHOOSE, 0x5a827999, NEXT(16));
	ROUND(d, e, a, b, c, CHOOSE, 0x5a827999, NEXT(17));
	ROUND(c, d, e, a, b, CHOOSE, 0x5a827999, NEXT(18));
	ROUND(b, c, d, e, a, CHOOSE, 0x5a827999, NEXT(19));
	FIVE(PARITY, 0x6ed9eba1, NEXT, 20);
	FIVE(PARITY, 0x6ed9eba1, NEXT, 25);
	FIVE(PARITY, 0x6ed9eba1, NEXT, 30);
	FIVE(PARITY, 0x6ed9eba1, NEXT, 35);
	FIVE(MAJORITY, 0x8f1bbcdc, NEXT, 40);
	FIVE(MAJORITY, 0x8f1bbcdc, NEXT, 45);
	FIVE(MAJORITY, 0x8f1bbcdc, NEXT, 50);
	FIVE(MAJORITY, 0x8f1bbcdc, NEXT, 55);
	FIVE(PARITY, 0xca62c1d6, NEXT, 60);
	FIVE(PARITY, 0xca62c1d6, NEXT, 65);
	FIVE(PARITY, 0xca62c1d6, NEXT, 70);
	FIVE(PARITY, 0xca62c1d6, NEXT, 75);
	s->h[0] += a;
	s->h[1] += b;
	s->h[2] += c;
	s->h[3] += d;
	s->h[4] += e;
	return 0;
}

#define MAX_SHA1_BLOCKS ((MAX_RTP + 4 + 9 + 63) / 64)

/* hmac leaves in h the code of the first len bytes of buf, at most MAX_RTP,
 * followed by a rollover counter (RFC 3711 section 4.2). It changes 76 bytes
 * after them. */
global_ int hmac(struct scratch *s, struct crypto *k, u32 len, u32 rollover)
{
	if (!s || !k || len > MAX_RTP)
		return 0;
	opaque(len);
	if (len > MAX_RTP)
		return 0;
	u32 *end = (u32 *)(s->buf + len);
	end[0] = be32(rollover);
	end[1] = 0x80;
#pragma unroll
	for (int i = 2; i < 19; i++)
		end[i] = 0;
	u32 blocks = (len + 4 + 9 + 63) / 64;
	if (blocks > MAX_SHA1_BLOCKS)
		return 0;
	*(u64 *)(s->buf + 64 * blocks - 8) = be64((64 + len + 4) * 8ULL);

	__builtin_memcpy(s->h, k->inner, sizeof(s->h));
	for (u32 i = 0; i < MAX_SHA1_BLOCKS; i++) {
		if (i >= blocks)
			break;
		sha1(s, 64 * i);
	}

	u32 *digest = (u32 *)(s->buf + BUFFER);
#pragma unroll
	for (int i = 0; i < 5; i++)
		digest[i] = be32(s->h[i]);
	digest[5] = 0x80;
#pragma unroll
	for (int i = 6; i < 15; i++)
		digest[i] = 0;
	digest[15] = be32((64 + 20) * 8);
	__builtin_memcpy(s->h, k->outer, sizeof(s->h));
	sha1(s, BUFFER);
	return 0;
}
