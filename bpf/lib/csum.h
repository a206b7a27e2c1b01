/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The Internet checksum (RFC 1071), in the byte order that the bytes lie in. */
#pragma once

#include "compiler.h"

/* Adds one word to a sum. */
static __always_inline __u32 csum_add_word(__u32 sum, __be32 word)
{
	__u64 total = (__u64)sum + (__u32)word;

	return (__u32)total + (total >> 32);
}

/* Adds `size` bytes, a multiple of 4, to a sum. */
static __always_inline __u32 csum_add(const void *bytes, __u32 size, __u32 sum)
{
	return bpf_csum_diff(NULL, 0, (__be32 *)bytes, size, sum);
}

/* What a header's checksum is to be, whose other bytes sum to this. */
static __always_inline __sum16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}
