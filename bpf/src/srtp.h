/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* SRTP (RFC 3711) with AES_CM_128_HMAC_SHA1_80, and AEAD_AES_128_GCM and
 * AEAD_AES_256_GCM (RFC 7714), on the packet in buf. */
#pragma once

#include "aes.h"
#include "ghash.h"
#include "sha1.h"

#define TAG_SHA1 10
#define TAG_GCM 16

inline_ u32 tag_len(u8 suite)
{
	return suite == SUITE_GCM ? TAG_GCM : suite == SUITE_CM_SHA1 ? TAG_SHA1 : 0;
}

/* RFC 3711 section 4.1.1 */
inline_ void cm_begin(struct scratch *s, struct crypto *k, u32 ssrc, u64 index)
{
	s->iv[0] = k->salt[0];
	s->iv[1] = k->salt[1] ^ ssrc;
	s->iv[2] = k->salt[2] ^ (u32)(index >> 16);
	s->iv[3] = k->salt[3] ^ (u32)(index << 16);
	aes_begin(s, k);
}

/* RFC 7714 section 8.1 */
inline_ void gcm_begin(struct scratch *s, struct crypto *k, u32 ssrc, u64 index)
{
	s->iv[0] = k->salt[0] ^ ssrc >> 16;
	s->iv[1] = k->salt[1] ^ (ssrc << 16 | (u32)(index >> 32));
	s->iv[2] = k->salt[2] ^ (u32)index;
	s->iv[3] = 0;
	aes_begin(s, k);
}

/* gcm_tag leaves in hi and lo the tag of a packet with this header and this
 * ciphertext after it. */
inline_ void gcm_tag(struct scratch *s, struct crypto *k, u32 header, u32 len)
{
	u64 *block = (u64 *)(s->buf + BUFFER);

	s->hi = s->lo = 0;
	ghash(s, k, 0, header);
	ghash(s, k, header, len);
	block[0] = be64(header * 8ULL);
	block[1] = be64(len * 8ULL);
	ghash(s, k, BUFFER, 16);
	block[0] = block[1] = 0;
	aes_ctr(s, k, BUFFER, 16, 1);
	s->hi ^= be64(block[0]);
	s->lo ^= be64(block[1]);
}

/* unprotect decrypts a packet of header and len bytes, without its tag, and says
 * whether it is authentic. */
global_ int unprotect(struct scratch *s, struct crypto *k, u32 header, u32 len, u64 index)
{
	if (!s || !k)
		return 0;
	u32 end = header + len;
	opaque(end);
	if (end > MAX_RTP)
		return 0;
	u32 ssrc = be32(*(u32 *)(s->buf + 8));
	u64 *tag = (u64 *)(s->buf + end);
	u64 first = be64(tag[0]), second = be64(tag[1]);
	if (k->suite == SUITE_GCM) {
		gcm_begin(s, k, ssrc, index);
		gcm_tag(s, k, header, len);
		if ((first ^ s->hi) | (second ^ s->lo))
			return 0;
		aes_ctr(s, k, header, len, 2);
		return 1;
	}
	hmac(s, k, end, index >> 16);
	if ((first ^ ((u64)s->h[0] << 32 | s->h[1])) | (second >> 48 ^ s->h[2] >> 16))
		return 0;
	cm_begin(s, k, ssrc, index);
	aes_ctr(s, k, header, len, 0);
	return 1;
}

/* protect encrypts a packet of header and len bytes, and puts the tag after it. */
global_ int protect(struct scratch *s, struct crypto *k, u32 header, u32 len, u64 index)
{
	if (!s || !k)
		return 0;
	u32 end = header + len;
	opaque(end);
	if (end > MAX_RTP)
		return 0;
	u32 ssrc = be32(*(u32 *)(s->buf + 8));
	u64 *tag = (u64 *)(s->buf + end);
	if (k->suite == SUITE_GCM) {
		gcm_begin(s, k, ssrc, index);
		aes_ctr(s, k, header, len, 2);
		gcm_tag(s, k, header, len);
		tag[0] = be64(s->hi);
		tag[1] = be64(s->lo);
		return 1;
	}
	cm_begin(s, k, ssrc, index);
	aes_ctr(s, k, header, len, 0);
	hmac(s, k, end, index >> 16);
	tag[0] = be64((u64)s->h[0] << 32 | s->h[1]);
	tag[1] = be64((u64)s->h[2] << 32);
	return 1;
}
