/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Included before a source of bpf/, unchanged, to count what it asks of the kernel. Looking into
 * an array (the counters, the two slots of a table, a service's backends) is a few inlined
 * instructions, and counted apart.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

enum call {
	CALL_LOOKUP, /* in a hash, LRU or LPM map */
	CALL_ARRAY,
	CALL_UPDATE,
	CALL_DELETE,
	CALL_ROUTE,
	CALL_SOCKET,
	CALL_COUNT,
};

__u64 calls[CALL_COUNT];

#define COUNTED(call, expression)                                                                  \
	({                                                                                         \
		calls[call]++;                                                                     \
		expression;                                                                        \
	})

#define IS_ARRAY(map)                                                                              \
	(!__builtin_strcmp(map, "&counters") || !__builtin_strcmp(map, "&family_state") ||         \
	 !__builtin_strcmp(map, "table_slots(table)") || !__builtin_strcmp(map, "map"))

#define bpf_map_lookup_elem(map, key)                                                              \
	COUNTED(IS_ARRAY(#map) ? CALL_ARRAY : CALL_LOOKUP, bpf_map_lookup_elem(map, key))
#define bpf_map_update_elem(...) COUNTED(CALL_UPDATE, bpf_map_update_elem(__VA_ARGS__))
#define bpf_map_delete_elem(...) COUNTED(CALL_DELETE, bpf_map_delete_elem(__VA_ARGS__))
#define bpf_fib_lookup(...)      COUNTED(CALL_ROUTE, bpf_fib_lookup(__VA_ARGS__))
#define bpf_skc_lookup_tcp(...)  COUNTED(CALL_SOCKET, bpf_skc_lookup_tcp(__VA_ARGS__))
#define bpf_sk_lookup_udp(...)   COUNTED(CALL_SOCKET, bpf_sk_lookup_udp(__VA_ARGS__))
