/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel types, helpers, and the few macros the project allows itself. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef likely
#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

#define READ_ONCE(x)     (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* A word of struct __sk_buff at its constant offset. Left to itself clang may
 * form a pointer to the field and reuse it, which the verifier refuses. */
#define CTX_LOAD(skb, field)                                                                       \
	({                                                                                         \
		__u32 word;                                                                        \
		asm volatile(                                                                      \
			"%[word] = *(u32 *)(%[ctx] + %[off])"                                      \
			: [word] "=r"(word)                                                        \
			: [ctx] "r"(skb), [off] "i"(__builtin_offsetof(struct __sk_buff, field))); \
		word;                                                                              \
	})
#define CTX_STORE(skb, field, value)                                                               \
	asm volatile("*(u32 *)(%[ctx] + %[off]) = %[word]" ::[ctx] "r"(skb),                       \
		     [off] "i"(__builtin_offsetof(struct __sk_buff, field)),                       \
		     [word] "r"((__u32)(value)))
