// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Inserts into a connection table at the one moment in which that cannot work:
 * while somebody else's update or deletion of the same key, on this CPU, holds
 * the lock of its bucket. It is held whenever the kernel writes to the links of an
 * entry, so a watchpoint on those is where the insertion is made.
 */
#include "lib/table.h"
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The head of an entry of the kernel's; its value follows the key. */
struct hlist_nulls_node {
	struct hlist_nulls_node *next, **pprev;
} __attribute__((preserve_access_index));

struct htab_elem {
	struct hlist_nulls_node hash_node;
	char key[];
} __attribute__((preserve_access_index));

struct attempt {
	struct tuple key;
	__u32 armed;
	__s32 result;
	__u64 links; /* where the kernel links the entry of the key */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct attempt);
} attempts SEC(".maps");

static __always_inline struct attempt *the_attempt(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&attempts, &zero);
}

static __always_inline void *the_table(void)
{
	return table_slot(TABLE_CT_TCP, TABLE_CURRENT);
}

/* The insertion itself. */
SEC("syscall")
int insert(void *ctx)
{
	struct attempt *attempt = the_attempt();
	struct ct_entry entry = { .expires = 1 };

	if (!attempt)
		return 1;
	attempt->result = table_insert(TABLE_CT_TCP, &attempt->key, &entry);
	return 0;
}

/* At the watchpoint. */
SEC("perf_event")
int insert_under_lock(void *ctx)
{
	struct attempt *attempt = the_attempt();
	struct ct_entry entry = { .expires = 1 };

	if (!attempt || !attempt->armed)
		return 0;
	attempt->armed = 0;
	attempt->result = table_insert(TABLE_CT_TCP, &attempt->key, &entry);
	return 0;
}

SEC("syscall")
int locate(void *ctx)
{
	struct attempt *attempt = the_attempt();
	void *table = the_table();
	void *value;

	if (!attempt || !table)
		return 1;
	value = bpf_map_lookup_elem(table, &attempt->key);
	if (!value)
		return 1;
	attempt->links = (__u64)value;
	attempt->links -= (sizeof(attempt->key) + 7) & ~7ull;
	attempt->links -= bpf_core_field_offset(struct htab_elem, key);
	attempt->links += bpf_core_field_offset(struct htab_elem, hash_node.pprev);
	return 0;
}

/* What somebody else does. Not by system call: while the kernel handles one that
 * changes a map, it runs no program at a watchpoint. */
SEC("syscall")
int update(void *ctx)
{
	struct attempt *attempt = the_attempt();
	struct ct_entry entry = { .expires = 7 };
	void *table = the_table();

	return !attempt || !table || bpf_map_update_elem(table, &attempt->key, &entry, BPF_ANY);
}

SEC("syscall")
int delete(void *ctx)
{
	struct attempt *attempt = the_attempt();
	void *table = the_table();

	return !attempt || !table || bpf_map_delete_elem(table, &attempt->key);
}
