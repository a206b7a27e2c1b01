/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Signals: what the agent is told the moment it happens.
 *
 * They are hints. One that is lost, or comes twice, costs a collection pass at
 * most; so the ring buffer is never waited for, and no packet depends on it.
 */
#pragma once

#include "clock.h"
#include "counters.h"

static __always_inline void event_send(enum event_type type, enum table table)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		count(COUNTER_EVENTS_LOST);
		return;
	}
	event->type = type;
	event->table = table;
	bpf_ringbuf_submit(event, 0);
}

/* Once a second in each family: of the CPUs that see a new second, the one that swaps
 * it into `told` tells. */
static __always_inline void event_send_rarely(enum event_type type, __u32 *told, __u32 now)
{
	__u32 before = READ_ONCE(*told);

	if (before != now && __sync_val_compare_and_swap(told, before, now) == before)
		event_send(type, 0);
}

/* Ports are running out. */
static __always_inline void event_nat_pressure(__u32 now)
{
	__u32 zero = 0;
	struct family_state *state = bpf_map_lookup_elem(&family_state, &zero);

	if (state)
		event_send_rarely(EVENT_NAT_PRESSURE, &state->pressure_told, now);
}

/* An entry was created, the `created`th of this CPU in `table`. */
static __always_inline void event_created(enum table table, __u64 created)
{
	if (config.fill_step && !(created & (config.fill_step - 1)))
		event_send(EVENT_TABLE_FILL, table);
}
