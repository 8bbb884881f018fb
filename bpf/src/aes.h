/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* AES in counter mode by table look-up: not constant in time.
 *
 * Between the blocks of a packet only the last byte of the counter changes. It
 * reaches one word in the first round and every word once in the second, so that
 * these two rounds take 5 look-ups in place of 32. */
#pragma once

#include "aes_table.h"
#include "layout.h"

#define MAX_BLOCKS ((MAX_RTP + 15) / 16 + 1)

/* Blocks that one call works on. */
#define CHUNK 4

#define LOOK(n, x) (*(const u32 *)((const u8 *)aes_table + (n) * 1024 + (x)))
#define LOOK_0(w) LOOK(0, (w) >> 22 & 0x3fc)
#define LOOK_1(w) LOOK(1, (w) >> 14 & 0x3fc)
#define LOOK_2(w) LOOK(2, (w) >> 6 & 0x3fc)
#define LOOK_3(w) LOOK(3, (w) << 2 & 0x3fc)

#define AES_WORD(a, b, c, d, key) (LOOK_0(a) ^ LOOK_1(b) ^ LOOK_2(c) ^ LOOK_3(d) ^ (key))

/* Word by word: the compiler would else look up all at once, and put the addresses
 * on the stack. */
#define AES_ROUND(r)                                       \
	do {                                               \
		u32 a = AES_WORD(s0, s1, s2, s3, (r)[0]); \
		opaque(a);                                 \
		u32 b = AES_WORD(s1, s2, s3, s0, (r)[1]); \
		opaque(b);                                 \
		u32 c = AES_WORD(s2, s3, s0, s1, (r)[2]); \
		opaque(c);                                 \
		u32 d = AES_WORD(s3, s0, s1, s2, (r)[3]); \
		opaque(d);                                 \
		s0 = a, s1 = b, s2 = c, s3 = d;           \
	} while (0)

/* The bare S-box stands in two places of every column. */
#define SUB_0(w) (LOOK(2, (w) >> 22 & 0x3fc) & 0xff000000)
#define SUB_1(w) (LOOK(0, (w) >> 14 & 0x3fc) & 0x00ff0000)
#define SUB_2(w) (LOOK(0, (w) >> 6 & 0x3fc) & 0x0000ff00)
#define SUB_3(w) (LOOK(1, (w) << 2 & 0x3fc) & 0x000000ff)

/* aes_begin prepares the packet whose first counter block is in iv, its last
 * byte zero. */
global_ int aes_begin(struct scratch *s, struct crypto *k)
{
	if (!s || !k)
		return 0;
	const u32 *r = k->round;
	u32 s0 = s->iv[0] ^ r[0], s1 = s->iv[1] ^ r[1], s2 = s->iv[2] ^ r[2], s3 = s->iv[3] ^ r[3];
	u32 t1 = AES_WORD(s1, s2, s3, s0, r[5]);
	u32 t2 = AES_WORD(s2, s3, s0, s1, r[6]);
	u32 t3 = AES_WORD(s3, s0, s1, s2, r[7]);
	s->iv[3] = s3;
	s->pre[0] = LOOK_0(s0) ^ LOOK_1(s1) ^ LOOK_2(s2) ^ r[4];
	s->pre[1] = LOOK_1(t1) ^ LOOK_2(t2) ^ LOOK_3(t3) ^ r[8];
	s->pre[2] = LOOK_0(t1) ^ LOOK_1(t2) ^ LOOK_2(t3) ^ r[9];
	s->pre[3] = LOOK_0(t2) ^ LOOK_1(t3) ^ LOOK_3(t1) ^ r[10];
	s->pre[4] = LOOK_0(t3) ^ LOOK_2(t1) ^ LOOK_3(t2) ^ r[11];
	return 0;
}

/* aes_blocks encrypts up to CHUNK blocks of buf from at on, with the counter from
 * count on. */
global_ int aes_blocks(struct scratch *s, struct crypto *k, u32 at, u32 blocks, u32 count)
{
	if (!s || !k || at > BUFFER)
		return 0;
	opaque(at);
	if (at > BUFFER)
		return 0;
	u64 *p = (u64 *)(s->buf + at);
	const u32 *r = k->round;
	for (u32 i = 0; i < CHUNK; i++) {
		if (i >= blocks)
			break;
		u32 t = s->pre[0] ^ LOOK_3(s->iv[3] ^ (count + i));
		u32 s0 = s->pre[1] ^ LOOK_0(t);
		u32 s1 = s->pre[2] ^ LOOK_3(t);
		u32 s2 = s->pre[3] ^ LOOK_2(t);
		u32 s3 = s->pre[4] ^ LOOK_1(t);
		AES_ROUND(r + 12);
		AES_ROUND(r + 16);
		AES_ROUND(r + 20);
		AES_ROUND(r + 24);
		AES_ROUND(r + 28);
		AES_ROUND(r + 32);
		AES_ROUND(r + 36);
		if (k->rounds == 14) {
			AES_ROUND(r + 40);
			AES_ROUND(r + 44);
			AES_ROUND(r + 48);
			AES_ROUND(r + 52);
		}
		u64 a = SUB_0(s0) ^ SUB_1(s1) ^ SUB_2(s2) ^ SUB_3(s3) ^ k->last[0];
		u64 b = SUB_0(s1) ^ SUB_1(s2) ^ SUB_2(s3) ^ SUB_3(s0) ^ k->last[1];
		u64 c = SUB_0(s2) ^ SUB_1(s3) ^ SUB_2(s0) ^ SUB_3(s1) ^ k->last[2];
		u64 d = SUB_0(s3) ^ SUB_1(s0) ^ SUB_2(s1) ^ SUB_3(s2) ^ k->last[3];
		p[0] ^= be64(a << 32 | b);
		p[1] ^= be64(c << 32 | d);
		p += 2;
	}
	return 0;
}

/* aes_ctr encrypts len bytes of buf from at on, with the counter from count on.
 * It changes up to 15 bytes after them. */
inline_ void aes_ctr(struct scratch *s, struct crypto *k, u32 at, u32 len, u32 count)
{
	u32 blocks = (len + 15) / 16;
	for (u32 i = 0; i < MAX_BLOCKS; i += CHUNK) {
		if (i >= blocks)
			break;
		aes_blocks(s, k, at + 16 * i, blocks - i, count + i);
	}
}
