/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* GHASH (NIST SP 800-38D section 6.4). A block is multiplied with H in four
 * 32-bit steps of eight nibbles each: look-ups that do not depend on one another,
 * and one reduction a step. */
#pragma once

#include "aes.h"

/* One after the other: the compiler would else do all look-ups at once, and put
 * their addresses on the stack. */
#define ORDER() asm volatile("" : "+r"(hi), "+r"(lo))

#define NIBBLE(t, x, shift, place)                                              \
	do {                                                                    \
		const u64 *e = (const u64 *)((const u8 *)(t) + (place) * 256 + \
					     ((x) >> (shift) << 4 & 0xf0));    \
		hi ^= e[0];                                                     \
		lo ^= e[1];                                                     \
		ORDER();                                                        \
	} while (0)

#define TIMES_X32()                                           \
	do {                                                  \
		u64 out = lo << 32;                           \
		lo = lo >> 32 | hi << 32;                     \
		hi >>= 32;                                    \
		hi ^= out ^ out >> 1 ^ out >> 2 ^ out >> 7; \
	} while (0)

#define GHASH_WORD(t, x, shift)                \
	do {                                   \
		NIBBLE(t, x, shift + 28, 0);   \
		NIBBLE(t, x, shift + 24, 1);   \
		NIBBLE(t, x, shift + 20, 2);   \
		NIBBLE(t, x, shift + 16, 3);   \
		NIBBLE(t, x, shift + 12, 4);   \
		NIBBLE(t, x, shift + 8, 5);    \
		NIBBLE(t, x, shift + 4, 6);    \
		NIBBLE(t, x, shift, 7);        \
	} while (0)

/* GHASH_BLOCK makes (state ^ block) * H. */
#define GHASH_BLOCK(t, a, b)               \
	do {                               \
		u64 x = (a) ^ hi;          \
		u64 y = (b) ^ lo;          \
		hi = lo = 0;               \
		GHASH_WORD(t, y, 0);       \
		TIMES_X32();               \
		GHASH_WORD(t, y, 32);      \
		TIMES_X32();               \
		GHASH_WORD(t, x, 0);       \
		TIMES_X32();               \
		GHASH_WORD(t, x, 32);      \
	} while (0)

/* ghash_blocks takes up to CHUNK blocks of buf from at on. */
global_ int ghash_blocks(struct scratch *s, struct crypto *k, u32 at, u32 blocks)
{
	if (!s || !k || at > BUFFER)
		return 0;
	opaque(at);
	if (at > BUFFER)
		return 0;
	const u64 *p = (const u64 *)(s->buf + at);
	const u8 *t = (const u8 *)k->table;
	u64 hi = s->hi, lo = s->lo;
	for (u32 i = 0; i < CHUNK; i++) {
		if (i >= blocks)
			break;
		GHASH_BLOCK(t, be64(p[0]), be64(p[1]));
		p += 2;
	}
	s->hi = hi;
	s->lo = lo;
	return 0;
}

/* ghash takes len bytes of buf from at on, filled up with zeros to a block. */
inline_ void ghash(struct scratch *s, struct crypto *k, u32 at, u32 len)
{
	u32 blocks = len / 16;
	for (u32 i = 0; i < MAX_BLOCKS; i += CHUNK) {
		if (i >= blocks)
			break;
		ghash_blocks(s, k, at + 16 * i, blocks - i);
	}
	u32 left = len & 15;
	if (!left)
		return;
	u32 from = at + 16 * blocks;
	opaque(from);
	if (from > BUFFER)
		return;
	const u64 *p = (const u64 *)(s->buf + from);
	u64 *copy = (u64 *)(s->buf + BUFFER);
	u64 a = be64(p[0]), b = be64(p[1]);
	if (left > 8) {
		b &= ~0ULL << (8 * (16 - left) & 63);
	} else {
		b = 0;
		a &= ~0ULL << (8 * (8 - left) & 63);
	}
	copy[0] = be64(a);
	copy[1] = be64(b);
	ghash_blocks(s, k, BUFFER, 1);
}
