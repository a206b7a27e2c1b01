/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The datapath's clock: whole seconds of jiffies, read once per packet. */
#pragma once

#include "../config.h"

/* bpf_jiffies64 is inlined by the verifier (0.9 ns); bpf_ktime_get_ns costs more
 * than a hot map lookup. User space converts with node_state.clock_delta_ns. */
static __always_inline __u32 clock_now(void)
{
	return bpf_jiffies64() / config.hz;
}

/* The contract's "an expired entry is a miss". */
static __always_inline bool clock_expired(__u32 expires, __u32 now)
{
	return expires <= now;
}
