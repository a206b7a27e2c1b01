/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kernel types, helpers, and the few macros the project allows itself. */
#pragma once

#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* Keeps the compiler from merging accesses around it (and thereby producing
 * context accesses that the verifier refuses). */
#define barrier() asm volatile("" ::: "memory")

#define NSEC_PER_SEC 1000000000ULL
