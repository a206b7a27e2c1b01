/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a hook ends: the only place that knows TC's codes. */
#pragma once

#include "counters.h"
#include "icmp_reply.h"
#include "packet.h"

#include <linux/pkt_cls.h>

/* TCX_NEXT, and TC_ACT_UNSPEC on classic TC: the next program, then the kernel. */
#define FINISH_NEXT (-1)

/* `result`: enum verdict, or a negative drop reason, with DROP_ANSWERED where what the
 * packet has become goes back to its sender. */
static __always_inline int finish(enum hook hook, int result)
{
	if (result < 0) {
		count(COUNTER_DROPS + hook * DROP_REASON_COUNT +
		      ((__u32)-result & (DROP_REASON_COUNT - 1)));
		count(COUNTER_PACKETS + hook * VERDICT_COUNT + VERDICT_DROP);
		return -result & DROP_ANSWERED ? TC_ACT_REDIRECT : TC_ACT_SHOT;
	}
	count(COUNTER_PACKETS + hook * VERDICT_COUNT + (result & (VERDICT_COUNT - 1)));
	return result == VERDICT_PASS ? FINISH_NEXT : TC_ACT_REDIRECT;
}
