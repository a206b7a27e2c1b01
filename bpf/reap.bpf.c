// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the agent runs in the kernel on its own behalf (BPF_PROG_TYPE_SYSCALL):
 * the collector's deletions, which look at each entry once more before they
 * delete it, and the two clocks at one instant.
 */
#include "lib/clock.h"
#include "lib/table.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The keys of one batch, mapped by the agent. */
struct reap_keys {
	struct tuple keys[REAP_BATCH];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reap_keys);
} reap_keys SEC(".maps");

struct reap_run {
	struct reap_keys *keys;
	__u32 deleted;
	__u32 skipped;
	__u32 nat_deleted;
	__u32 failed;
	__u32 now;
	__u32 table;
	bool force;
};

enum reaped {
	REAP_SKIPPED,
	REAP_DELETED,
	REAP_FAILED, /* the kernel refused: the next pass tries again */
};

static __always_inline enum reaped reap_delete(enum table table, const struct tuple *key)
{
	return table_delete(table, key) ? REAP_DELETED : REAP_FAILED;
}

/* Deletes a NAT half that has expired; with a reverse half, its destination has a
 * free port again. Nothing while `expires` is 0: a
 * flow is just taking the entry over. */
static __noinline enum reaped reap_nat_half(const struct tuple *key, __u32 now, bool force)
{
	struct nat_entry *half = table_lookup(TABLE_SNAT, key);
	struct nat_full *full;
	struct tuple peer;

	if (!half || !half->expires || (!force && !clock_expired(half->expires, now)))
		return REAP_SKIPPED;
	if (reap_delete(TABLE_SNAT, key) != REAP_DELETED)
		return REAP_FAILED;
	if (key->kind & KIND_IN) {
		tuple_reverse(&peer, key, 0);
		peer.sport = 0;
		full = bpf_map_lookup_elem(&nat_full, &peer);
		if (full)
			WRITE_ONCE(full->until, 0);
	}
	return REAP_DELETED;
}

/* The two halves of the flow whose CT OUT entry is being deleted. A port that has
 * become another flow's is that flow's. */
static __always_inline void reap_pair(const struct tuple *flow, const struct ct_entry *entry,
				      struct reap_run *run)
{
	struct nat_entry *forward = table_lookup(TABLE_SNAT, flow);
	struct nat_entry *half;
	struct tuple reverse;
	bool owned;

	tuple_reverse(&reverse, flow, KIND_IN);
	reverse.daddr = forward ? forward->addr : entry->nat_addr;
	reverse.dport = forward ? forward->port : entry->nat_port;
	half = table_lookup(TABLE_SNAT, &reverse);
	owned = half && nat_half_leads_to(half, flow);
	run->nat_deleted += reap_nat_half(flow, run->now, run->force) == REAP_DELETED;
	run->nat_deleted += reap_nat_half(&reverse, run->now, run->force && owned) == REAP_DELETED;
}

static __noinline enum reaped reap_ct(const struct tuple *key, struct reap_run *run, bool tcp)
{
	struct ct_entry *entry =
		tcp ? table_lookup(TABLE_CT_TCP, key) : table_lookup(TABLE_CT_ANY, key);

	if (!entry || (!run->force && !clock_expired(entry->expires, run->now)))
		return REAP_SKIPPED;
	if (key->kind == KIND_OUT)
		reap_pair(key, entry, run);
	return tcp ? reap_delete(TABLE_CT_TCP, key) : reap_delete(TABLE_CT_ANY, key);
}

static long reap_one(__u32 index, void *data)
{
	struct reap_run *run = data;
	enum reaped reaped;
	struct tuple key;

	if (index >= REAP_BATCH)
		return 1;
	key = run->keys->keys[index];
	if (run->table == TABLE_CT_TCP)
		reaped = reap_ct(&key, run, true);
	else if (run->table == TABLE_CT_ANY)
		reaped = reap_ct(&key, run, false);
	else
		reaped = reap_nat_half(&key, run->now, run->force);
	run->deleted += reaped == REAP_DELETED;
	run->skipped += reaped == REAP_SKIPPED;
	run->failed += reaped == REAP_FAILED;
	return 0;
}

SEC("syscall")
int reap(struct reap_args *args)
{
	__u32 zero = 0;
	struct reap_run run = {
		.keys = bpf_map_lookup_elem(&reap_keys, &zero),
		.now = clock_now(),
		.table = args->table,
		.force = args->force,
	};

	if (!run.keys || args->count > REAP_BATCH)
		return -1;
	bpf_loop(args->count, reap_one, &run, 0);
	args->now = run.now;
	args->deleted = run.deleted;
	args->skipped = run.skipped;
	args->nat_deleted = run.nat_deleted;
	args->failed = run.failed;
	return 0;
}

SEC("syscall")
int read_clock(struct clock_sample *sample)
{
	sample->jiffies = bpf_jiffies64();
	sample->monotonic_ns = bpf_ktime_get_ns();
	return 0;
}
