/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* The window of a plan: which of the newest indices were taken. It is exact with
 * any number of CPUs, since a word is changed only by compare and swap, and it is
 * how user space takes a plan back: a word that it has swapped for CLOSED takes
 * nothing any more. */
#pragma once

#include "layout.h"

#define CLOSED (~0ULL)

/* How far a sequence number may be ahead of the newest, or behind it, and still
 * be taken for loss or reordering. */
#define MAX_AHEAD 3000
#define MAX_BEHIND (16 * (WINDOW - 1))

/* nearest is the index closest to the newest one (RFC 3711 section 3.3.1). */
inline_ u64 nearest(u64 newest, u16 sequence, s32 *ahead)
{
	s32 delta = (s16)(sequence - (u16)newest);
	*ahead = delta;
	return newest + (s64)delta;
}

/* seen says without changing anything what take would. */
inline_ enum cause seen(struct flow *f, u64 index)
{
	u64 word = f->window[index >> 4 & (WINDOW - 1)];
	u64 block = index >> 4;
	if (word == CLOSED)
		return UP_CLOSED;
	if (word >> 16 > block || (word >> 16 == block && word >> (index & 15) & 1))
		return DROP_REPLAY;
	return FORWARDED;
}

/* take notes an index, once. */
inline_ enum cause take(struct flow *f, u64 index)
{
	u64 *word = &f->window[index >> 4 & (WINDOW - 1)];
	u64 block = index >> 4;
	u64 bit = 1ULL << (index & 15);
#pragma unroll
	for (int i = 0; i < 8; i++) {
		u64 old = *(volatile u64 *)word;
		if (old == CLOSED)
			return UP_CLOSED;
		if (old >> 16 > block)
			return DROP_REPLAY;
		u64 new = bit;
		if (old >> 16 == block) {
			if (old & bit)
				return DROP_REPLAY;
			new |= old & 0xffff;
		}
		if (__sync_val_compare_and_swap(word, old, block << 16 | new) == old)
			return FORWARDED;
	}
	return DROP_REPLAY;
}
