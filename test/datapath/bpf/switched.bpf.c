// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * One operation on a connection table that stands still, for as long as the test
 * likes, right before or after one of its changes to a map: what the rest of the
 * world does meanwhile comes in between. Loaded with `gated` off, the same does not
 * stop.
 */
#include "lib/compiler.h"

struct gate {
	__u32 at;      /* in: stop before (odd) or after (even) a change, from 1 */
	__u32 passed;  /* changes that have been stopped at, or gone by, so far */
	__u32 waiting; /* it stands still */
	__u32 open;    /* in: go on */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gate);
} gate SEC(".maps");

const volatile bool gated;

static long gate_spin(__u32 index, void *data)
{
	struct gate **stop = data;

	return READ_ONCE((*stop)->open) != 0;
}

/* Where a kernel does not preempt, this CPU is nobody else's, the thread's that is to open
 * the gate included. A system call that asks for memory before it refuses lets them in. */
static long gate_wait(__u32 index, void *data)
{
	struct gate **stop = data;
	__u64 no_types[4] = {};

	bpf_loop(1 << 20, gate_spin, data, 0);
	bpf_sys_bpf(BPF_BTF_LOAD, no_types, sizeof(no_types));
	return READ_ONCE((*stop)->open) != 0;
}

/* Some ten seconds at most. */
static __noinline int gate_pass(void)
{
	__u32 zero = 0;
	struct gate *stop;

	if (!gated)
		return 0;
	stop = bpf_map_lookup_elem(&gate, &zero);
	if (!stop || ++stop->passed != stop->at)
		return 0;
	WRITE_ONCE(stop->waiting, 1);
	bpf_loop(1 << 11, gate_wait, &stop, 0);
	WRITE_ONCE(stop->waiting, 0);
	return 0;
}

static __always_inline long gated_update(void *map, const void *key, const void *value, __u64 flags)
{
	long err;

	gate_pass();
	err = bpf_map_update_elem(map, key, value, flags);
	gate_pass();
	return err;
}

static __always_inline long gated_delete(void *map, const void *key)
{
	long err;

	gate_pass();
	err = bpf_map_delete_elem(map, key);
	gate_pass();
	return err;
}

#define bpf_map_update_elem gated_update
#define bpf_map_delete_elem gated_delete
#include "lib/table.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct operation {
	struct tuple key;
	__u16 port; /* of the entry: by which the test tells whose it is */
	__s16 result;
};

SEC("syscall")
int insert(struct operation *operation)
{
	struct nat_entry entry = { .port = operation->port };
	struct tuple key = operation->key;

	operation->result = table_insert(TABLE_SNAT, &key, &entry);
	return 0;
}

/* The port of the entry, or 0. */
SEC("syscall")
int lookup(struct operation *operation)
{
	struct tuple key = operation->key;
	struct nat_entry *entry = table_lookup(TABLE_SNAT, &key);

	operation->result = entry ? entry->port : 0;
	return 0;
}

SEC("syscall")
int remove(struct operation *operation)
{
	struct tuple key = operation->key;

	operation->result = !table_delete(TABLE_SNAT, &key);
	return 0;
}

/* Whether an expired entry could be taken over: 1, or 0; -1 without one. */
SEC("syscall")
int settled(struct operation *operation)
{
	struct tuple key = operation->key;
	struct nat_entry *entry = table_lookup(TABLE_SNAT, &key);

	operation->result = entry ? table_is_settled(TABLE_SNAT, &key, entry) : -1;
	return 0;
}
