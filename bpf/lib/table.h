/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connection tables behind their two slots.
 *
 * A miss in the current table looks in the previous one, which is there only
 * while a resize copies it, and promotes what it finds. So nothing above this
 * file knows that tables are ever replaced.
 *
 * An entry whose `expires` is 0 is claimed: somebody is making it another's, or
 * deleting it. The key of a deleted entry can be found no more, but a pointer to it
 * still can be read, and shows another flow's as soon as the kernel gives the memory
 * away. So nothing is read after a deletion: who deletes, or fills an expired entry,
 * first swaps `expires` for 0, and has lost if it is no longer what was seen.
 */
#pragma once

#include "event.h"

#define ENOENT      2
#define E2BIG       7
#define ENOMEM      12
#define EBUSY       16
#define EEXIST      17
#define EDEADLK     35
#define ETIMEDOUT   110

/* Tries at an update that another CPU's hold on the bucket made fail. */
#define TABLE_TRIES 3

/* Looks at an entry that is claimed, before it counts as nobody's. */
#define CLAIM_TRIES 3

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

/* Every load and store before it comes before every one after it: BPF has no
 * barrier of its own, but an exchange is one on every architecture. */
static __always_inline void table_barrier(void)
{
	volatile __u32 word = 0;

	__sync_lock_test_and_set(&word, 1);
}

/*
 * A resize goes through {old, -}, {old, old}, {new, old}, {new, -}. User space
 * waits after every step until no packet's program that began before it is left,
 * so a program sees one step at most, and one that finds no previous table has
 * seen none and will see none: what follows costs it one slot.
 *
 * While {old, old} becomes {new, old}, some CPUs claim keys in the old table and
 * others in the new one. Each makes its entry first and then looks for one in the
 * other's place: who is in the old table whether the slot has been switched by
 * now, and if so he claims the key in the new one, too; who is in the new table,
 * in the old one. That is Dekker's handshake, hence the barrier: one of the two
 * finds the other and takes his own entry back. If both do, nobody has the key.
 *
 * True: the key is somebody else's, and the entry just made in `map` is gone.
 */
static __always_inline bool table_yields(enum table table, void *map, void *previous,
					 const struct tuple *key, const void *value)
{
	void *current;
	bool theirs;

	table_barrier();
	current = table_slot(table, TABLE_CURRENT);
	if (current && current != map)
		theirs = (int)bpf_map_update_elem(current, key, value, BPF_NOEXIST) == -EEXIST;
	else
		theirs = map != previous && bpf_map_lookup_elem(previous, key);
	if (theirs)
		bpf_map_delete_elem(map, key);
	return theirs;
}

/* Inserts with NOEXIST. 0, -EEXIST, or the errno of the last try (counted). */
static __always_inline long table_insert(enum table table, const struct tuple *key,
					 const void *value)
{
	void *current = table_slot(table, TABLE_CURRENT);
	void *previous;
	long err = -ENOMEM;

	if (!current)
		return err;
	for (int i = 0; i < TABLE_TRIES; i++) {
		/* before 6.4 the kernel answers with an int: the upper half is not its sign */
		err = (int)bpf_map_update_elem(current, key, value, BPF_NOEXIST);
		if (!err) {
			previous = table_slot(table, TABLE_PREVIOUS);
			if (unlikely(previous) &&
			    table_yields(table, current, previous, key, value))
				return -EEXIST;
			event_created(table, count(COUNTER_CREATED + table));
			return 0;
		}
		if (err == -EEXIST)
			return err;
		table_count_error(table, err);
	}
	return err;
}

/*
 * Copies an entry of the previous table into the current one, where nothing is in
 * its place. 0, -EEXIST, or another errno. -ENOENT: it was deleted meanwhile, and
 * so is the copy. Deletions go to the previous table first: one that came too
 * early to find the copy is seen by the second look. (Left open: a deletion finds
 * the copy, a new flow claims the key, and only then comes the second look, which
 * takes that flow's entry. Restore brings it back.)
 */
static __always_inline long table_carry(void *previous, void *current, const struct tuple *key,
					const void *entry)
{
	long err = (int)bpf_map_update_elem(current, key, entry, BPF_NOEXIST);

	if (err || bpf_map_lookup_elem(previous, key))
		return err;
	bpf_map_delete_elem(current, key);
	return -ENOENT;
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
	table_carry(previous, current, key, entry);
	return bpf_map_lookup_elem(current, key);
}

/* Is the entry in the place that every CPU looks in? Where the slots are just being
 * switched it may be a copy, or have one: what is done to it alone decides nothing. */
static __always_inline bool table_is_settled(enum table table, const struct tuple *key,
					     const void *entry)
{
	void *previous = table_slot(table, TABLE_PREVIOUS);
	void *current;

	if (likely(!previous))
		return true;
	current = table_slot(table, TABLE_CURRENT);
	return current && current != previous && bpf_map_lookup_elem(current, key) == entry;
}

/* From the previous table first, so that the copy cannot bring it back; and the
 * current one is the one that is current then: see table_yields(). 0, or what the
 * kernel says where it was in neither: -ENOENT, unless it refused. */
static __always_inline long table_delete(enum table table, const struct tuple *key)
{
	void *previous = table_slot(table, TABLE_PREVIOUS);
	long err = -ENOENT;
	void *current;
	long answer;

	if (unlikely(previous)) {
		err = (int)bpf_map_delete_elem(previous, key);
		table_barrier();
	}
	current = table_slot(table, TABLE_CURRENT);
	if (current) {
		answer = (int)bpf_map_delete_elem(current, key);
		if (!answer || err == -ENOENT)
			err = answer;
	}
	if (!err)
		count(COUNTER_DELETED + table);
	return err;
}
