/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections and drops of services and backends, per CPU. */
#pragma once

#include "../config.h"
#include "../maps.h"

__noinline int service_count(__u32 id, enum service_count kind, __u16 reason)
{
	struct service_count_key key = { .id = id, .kind = kind, .reason = reason };
	__u64 *value = bpf_map_lookup_elem(&service_counts, &key);
	__u64 one = 1;

	if (!value) {
		if (!bpf_map_update_elem(&service_counts, &key, &one, BPF_NOEXIST))
			return 0;
		value = bpf_map_lookup_elem(&service_counts, &key);
		if (!value)
			return 0;
	}
	if (config.interruptible)
		__sync_fetch_and_add(value, 1);
	else
		++*value;
	return 0;
}
