/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the programs use of the kernel: types, helpers, map definitions. */
#pragma once

#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;

#define SEC(name) __attribute__((section(name), used))
#define inline_ static inline __attribute__((always_inline))
#define global_ __attribute__((noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Hides where a value comes from, so that the compiler keeps the bounds check
 * that the verifier wants to see on the register that is used. */
#define opaque(x) asm volatile("" : "+r"(x))

#define be16(x) __builtin_bswap16(x)
#define be32(x) __builtin_bswap32(x)
#define be64(x) __builtin_bswap64(x)

/* Map definitions, read by the loader from BTF. */
#define map_uint(name, value) int(*name)[value]
#define map_type(name, value) typeof(value) *name

static void *(*map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static u64 (*ktime)(void) = (void *)BPF_FUNC_ktime_get_ns;
static long (*redirect)(u32 ifindex, u64 flags) = (void *)BPF_FUNC_redirect;
static long (*fib_lookup)(void *ctx, struct bpf_fib_lookup *params, int size, u32 flags) = (void *)BPF_FUNC_fib_lookup;
static long (*adjust_head)(struct xdp_md *ctx, int delta) = (void *)BPF_FUNC_xdp_adjust_head;
static long (*adjust_tail)(struct xdp_md *ctx, int delta) = (void *)BPF_FUNC_xdp_adjust_tail;
static long (*load_bytes)(struct xdp_md *ctx, u32 offset, void *buf, u32 len) = (void *)BPF_FUNC_xdp_load_bytes;
static long (*store_bytes)(struct xdp_md *ctx, u32 offset, void *buf, u32 len) = (void *)BPF_FUNC_xdp_store_bytes;
static s64 (*csum_diff)(__be32 *from, u32 from_size, __be32 *to, u32 to_size, u32 seed) = (void *)BPF_FUNC_csum_diff;
static struct bpf_sock *(*sk_lookup_udp)(void *ctx, struct bpf_sock_tuple *tuple, u32 size, u64 netns, u64 flags) = (void *)BPF_FUNC_sk_lookup_udp;
static long (*sk_release)(void *sock) = (void *)BPF_FUNC_sk_release;
static u64 (*buff_len)(struct xdp_md *ctx) = (void *)BPF_FUNC_xdp_get_buff_len;
