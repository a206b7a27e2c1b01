// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What fills the new map of a table that is being resized (BPF_PROG_TYPE_SYSCALL):
 * entries of the previous map go to the current one, a batch of keys at a time, so
 * that no CPU is held longer than a batch takes.
 */
#include "lib/table.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The keys of one batch, mapped by the agent. */
struct copy_keys {
	struct tuple keys[COPY_BATCH];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct copy_keys);
} copy_keys SEC(".maps");

struct copy_run {
	struct copy_keys *keys;
	__u32 table;
	__u32 copied;
	__u32 skipped;
	__u32 failed;
};

/* 0, or -EEXIST or -ENOENT for what needs no copy, or the errno of the last try. */
static __always_inline long copy_entry(enum table table, const struct tuple *key)
{
	void *current = table_slot(table, TABLE_CURRENT);
	void *previous = table_slot(table, TABLE_PREVIOUS);
	long err = -ENOENT;
	void *entry;

	if (!current || !previous)
		return err;
	entry = bpf_map_lookup_elem(previous, key);
	for (int i = 0; entry && i < TABLE_TRIES; i++) {
		err = table_carry(previous, current, key, entry);
		if (!err || err == -EEXIST || err == -ENOENT)
			break;
		table_count_error(table, err);
	}
	return err;
}

static long copy_one(__u32 index, void *data)
{
	struct copy_run *run = data;
	struct tuple key;
	long err;

	if (index >= COPY_BATCH)
		return 1;
	key = run->keys->keys[index];
	if (run->table == TABLE_CT_TCP)
		err = copy_entry(TABLE_CT_TCP, &key);
	else if (run->table == TABLE_CT_ANY)
		err = copy_entry(TABLE_CT_ANY, &key);
	else
		err = copy_entry(TABLE_SNAT, &key);
	if (!err)
		run->copied++;
	else if (err == -EEXIST || err == -ENOENT)
		run->skipped++;
	else
		run->failed++;
	return 0;
}

SEC("syscall")
int copy(struct copy_args *args)
{
	__u32 zero = 0;
	struct copy_run run = {
		.keys = bpf_map_lookup_elem(&copy_keys, &zero),
		.table = args->table,
	};

	if (!run.keys || args->count > COPY_BATCH)
		return -1;
	bpf_loop(args->count, copy_one, &run, 0);
	args->copied = run.copied;
	args->skipped = run.skipped;
	args->failed = run.failed;
	return 0;
}
