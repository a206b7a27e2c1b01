/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connection tables behind their two slots.
 *
 * A miss in the current table looks in the previous one, which is there only
 * while a resize copies it, and promotes what it finds. So nothing above this
 * file knows that tables are ever replaced.
 */
#pragma once

#include "event.h"

#define E2BIG       7
#define ENOMEM      12
#define EBUSY       16
#define EEXIST      17
#define EDEADLK     35
#define ETIMEDOUT   110

/* Tries at an update that another CPU's hold on the bucket made fail. */
#define TABLE_TRIES 3

/* Is it the reverse half of `flow`? */
static __always_inline bool nat_half_leads_to(const struct nat_entry *reverse,
					      const struct tuple *flow)
{
	return reverse->port == flow->sport && ip_addr_equal(&reverse->addr, &flow->saddr);
}

static __always_inline void *table_slots(enum table table)
{
	switch (table) {
	case TABLE_CT_TCP:
		return &ct_tcp_maps;
	case TABLE_CT_ANY:
		return &ct_any_maps;
	default:
		return &snat_maps;
	}
}

static __always_inline void *table_slot(enum table table, __u32 slot)
{
	return bpf_map_lookup_elem(table_slots(table), &slot);
}

static __always_inline void table_count_error(enum table table, long err)
{
	enum update_error error;

	switch (-err) {
	case EBUSY:
		error = UPDATE_EBUSY;
		break;
	case ENOMEM:
		error = UPDATE_ENOMEM;
		break;
	case E2BIG:
		error = UPDATE_E2BIG;
		break;
	case EDEADLK:
		error = UPDATE_EDEADLK;
		break;
	case ETIMEDOUT:
		error = UPDATE_ETIMEDOUT;
		break;
	default:
		error = UPDATE_OTHER;
	}
	count(COUNTER_UPDATE_ERRORS + table * UPDATE_ERROR_COUNT + error);
}

/* Inserts with NOEXIST. 0, -EEXIST, or the errno of the last try (counted). */
static __always_inline long table_insert(enum table table, const struct tuple *key,
					 const void *value)
{
	void *current = table_slot(table, TABLE_CURRENT);
	long err = -ENOMEM;

	if (!current)
		return err;
	for (int i = 0; i < TABLE_TRIES; i++) {
		/* before 6.4 the kernel answers with an int: the upper half is not its sign */
		err = (int)bpf_map_update_elem(current, key, value, BPF_NOEXIST);
		if (!err) {
			event_created(table, count(COUNTER_CREATED + table));
			return 0;
		}
		if (err == -EEXIST)
			return err;
		table_count_error(table, err);
	}
	return err;
}

/* The entry, live or expired, or NULL. A BPF lookup also marks it as recently
 * used for LRU. */
static __always_inline void *table_lookup(enum table table, const struct tuple *key)
{
	void *current = table_slot(table, TABLE_CURRENT);
	void *previous, *entry;

	if (!current)
		return NULL;
	entry = bpf_map_lookup_elem(current, key);
	if (entry)
		return entry;
	previous = table_slot(table, TABLE_PREVIOUS);
	if (likely(!previous))
		return NULL;
	entry = bpf_map_lookup_elem(previous, key);
	if (!entry)
		return NULL;
	bpf_map_update_elem(current, key, entry, BPF_NOEXIST);
	return bpf_map_lookup_elem(current, key);
}

/* Deletes from the previous table first, so that the copy cannot bring it back. */
static __always_inline bool table_delete(enum table table, const struct tuple *key)
{
	void *previous = table_slot(table, TABLE_PREVIOUS);
	void *current = table_slot(table, TABLE_CURRENT);
	bool deleted = false;

	if (unlikely(previous))
		deleted = !bpf_map_delete_elem(previous, key);
	if (current)
		deleted |= !bpf_map_delete_elem(current, key);
	if (deleted)
		count(COUNTER_DELETED + table);
	return deleted;
}
