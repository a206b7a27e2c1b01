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

/* Ports are running out. Once a second in each family: of the CPUs that see a
 * new second, the one that swaps it in tells. */
static __always_inline void event_nat_pressure(__u32 now)
{
	__u32 zero = 0;
	struct family_state *state = bpf_map_lookup_elem(&family_state, &zero);
	__u32 told;

	if (!state)
		return;
	told = READ_ONCE(state->pressure_told);
	if (told == now || __sync_val_compare_and_swap(&state->pressure_told, told, now) != told)
		return;
	event_send(EVENT_NAT_PRESSURE, 0);
}

/* An entry was created, the `created`th of this CPU in `table`. */
static __always_inline void event_created(enum table table, __u64 created)
{
	if (config.fill_step && !(created & (config.fill_step - 1)))
		event_send(EVENT_TABLE_FILL, table);
}
