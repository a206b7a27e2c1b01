// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What the agent runs in the kernel on its own behalf (BPF_PROG_TYPE_SYSCALL):
 * the collector's work, which looks at each entry once more before it does
 * anything to it, and the two clocks at one instant.
 */
#include "lib/clock.h"
#include "lib/flow_class.h"
#include "lib/table.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* How old, in seconds, a half must be to be called left over: a flow that is just
 * changing its port has both mappings for an instant. */
#define HALF_SETTLED 2

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
	struct reap_args args;
};

enum reaped {
	REAP_SKIPPED,
	REAP_DELETED,
	REAP_COMPLETED,
	REAP_WITH_OWNER, /* and counted there */
	REAP_FAILED,     /* the kernel refused: the next pass tries again */
};

/* Claims an entry by its `expires` (lib/table.h) as it was seen, and deletes it. What
 * others have claimed is theirs, unless `claimed`. */
static __always_inline enum reaped reap_delete(enum table table, const struct tuple *key,
					       __u32 *word, __u32 expires, bool claimed)
{
	long err;

	if (!expires && !claimed)
		return REAP_SKIPPED;
	if (__sync_val_compare_and_swap(word, expires, 0) != expires)
		return REAP_SKIPPED;
	err = table_delete(table, key);
	if (!err)
		return REAP_DELETED;
	if (err == -ENOENT)
		return REAP_SKIPPED;
	__sync_val_compare_and_swap(word, 0, expires);
	return REAP_FAILED;
}

/* Does the mode take what others have claimed? */
static __always_inline bool reap_takes_claimed(__u32 mode)
{
	return mode == REAP_FORCED || mode == REAP_CLAIMED;
}

/* Deletes a NAT half as it was seen, `expires` included; with a reverse half, its
 * destination has a free port again. */
static __noinline enum reaped reap_half(const struct tuple *key, struct nat_entry *half,
					__u32 expires, bool claimed)
{
	enum reaped reaped = reap_delete(TABLE_SNAT, key, &half->expires, expires, claimed);
	struct nat_full *full;
	struct tuple peer;

	if (reaped == REAP_DELETED && (key->kind & KIND_IN)) {
		tuple_reverse(&peer, key, 0);
		peer.sport = 0;
		full = bpf_map_lookup_elem(&nat_full, &peer);
		if (full)
			WRITE_ONCE(full->until, 0);
	}
	return reaped;
}

static __always_inline struct ct_entry *reap_find_ct(const struct tuple *key, bool tcp)
{
	return tcp ? table_lookup(TABLE_CT_TCP, key) : table_lookup(TABLE_CT_ANY, key);
}

/* What a CT entry says that its flow is translated to. */
struct reap_mapping {
	struct ip_addr addr;
	__be16 port;
};

/* The two halves of the flow whose CT OUT entry goes; NULL where there is none. */
struct reap_pair {
	struct tuple reverse_key;
	struct nat_entry *forward;
	struct nat_entry *reverse;
};

/* A port that has become another flow's is that flow's. Also marks what it finds as
 * recently used. */
static __always_inline bool
reap_find_pair(const struct tuple *flow, const struct reap_mapping *mapped, struct reap_pair *pair)
{
	struct nat_entry *forward = table_lookup(TABLE_SNAT, flow);

	tuple_reverse(&pair->reverse_key, flow, KIND_IN);
	pair->reverse_key.daddr = forward ? forward->addr : mapped->addr;
	pair->reverse_key.dport = forward ? forward->port : mapped->port;
	pair->forward = forward;
	pair->reverse = table_lookup(TABLE_SNAT, &pair->reverse_key);
	return pair->reverse && nat_half_leads_to(pair->reverse, flow);
}

/* Halves live on by themselves when only their CT entry has expired: they may be all
 * that is left of a connection. An expired reverse half is nobody's, whoever had it. */
static __noinline int reap_pair(const struct tuple *flow, const struct reap_mapping *mapped,
				struct reap_run *run, bool only_expired)
{
	__u32 now = run->args.now;
	struct reap_pair pair;
	bool owned = reap_find_pair(flow, mapped, &pair);
	__u32 expires;

	if (pair.forward) {
		expires = READ_ONCE(pair.forward->expires);
		if (!only_expired || clock_expired(expires, now))
			run->args.nat_deleted +=
				reap_half(flow, pair.forward, expires, false) == REAP_DELETED;
	}
	if (pair.reverse) {
		expires = READ_ONCE(pair.reverse->expires);
		if (only_expired ? clock_expired(expires, now) : owned)
			run->args.nat_deleted += reap_half(&pair.reverse_key, pair.reverse, expires,
							   false) == REAP_DELETED;
	}
	return 0;
}

/* Does the mode want this entry, as it is now? */
static __always_inline bool reap_wants(const struct ct_entry *entry, __u32 expires,
				       const struct reap_args *args, bool tcp)
{
	enum flow_class class;

	if (!expires)
		return reap_takes_claimed(args->mode);
	if (args->mode == REAP_CLAIMED)
		return false;
	if (args->mode == REAP_FORCED || clock_expired(expires, args->now))
		return true;
	if (args->mode == REAP_EXPIRED)
		return false;
	class = flow_class(entry, tcp);
	if (args->mode == REAP_LEAVING)
		return class != FLOW_CLOSING;
	return (args->classes & (1U << class)) &&
	       (class != FLOW_ANSWERED || expires <= args->idle_until);
}

/* An entry that says it was never translated has no pair, and so costs no look for
 * one. Whoever wants all of a flow gone does not take its word. */
static __always_inline bool reap_has_pair(const struct tuple *key,
					  const struct reap_mapping *mapped, __u32 mode)
{
	const struct ip_addr none = {};

	if (key->kind != KIND_OUT)
		return false;
	return mode == REAP_FORCED || mode == REAP_LEAVING || mapped->port ||
	       !ip_addr_equal(&mapped->addr, &none);
}

static __always_inline bool reap_is_established(const struct nat_entry *half, __u32 now)
{
	return half && half->class == NAT_CLASS_ESTABLISHED && !clock_expired(half->expires, now);
}

/* Is the connection established by what its halves know? Its CT entry may be a new one
 * that has not seen an answer yet. LRU takes the halves for used. */
static __noinline bool reap_touch_pair(const struct tuple *flow, const struct reap_mapping *mapped,
				       __u32 now)
{
	struct reap_pair pair;
	bool owned = reap_find_pair(flow, mapped, &pair);

	return reap_is_established(pair.forward, now) ||
	       (owned && reap_is_established(pair.reverse, now));
}

/* Relief leaves a live connection that its halves know better than its entry does,
 * unless that has seen its end. */
static __always_inline bool reap_is_spared(const struct tuple *key, const struct ct_entry *entry,
					   const struct reap_mapping *mapped, bool tcp, __u32 now)
{
	return reap_touch_pair(key, mapped, now) && flow_class(entry, tcp) != FLOW_CLOSING;
}

/* Deletes a CT entry, and what its mode says of its pair. */
static __noinline enum reaped reap_ct(const struct tuple *key, struct reap_run *run, bool tcp)
{
	struct ct_entry *entry = reap_find_ct(key, tcp);
	struct reap_mapping mapped;
	__u32 mode = run->args.mode;
	__u32 now = run->args.now;
	enum reaped reaped;
	bool pair, over;
	__u32 expires;

	if (!entry)
		return REAP_SKIPPED;
	expires = READ_ONCE(entry->expires);
	mapped.addr = entry->nat_addr;
	mapped.port = entry->nat_port;
	over = clock_expired(expires, now);
	pair = reap_has_pair(key, &mapped, mode);
	if (mode == REAP_RELIEF && pair && !over && reap_is_spared(key, entry, &mapped, tcp, now))
		return REAP_SKIPPED;
	if (!reap_wants(entry, expires, &run->args, tcp))
		return REAP_SKIPPED;
	if (tcp)
		reaped = reap_delete(TABLE_CT_TCP, key, &entry->expires, expires,
				     reap_takes_claimed(mode));
	else
		reaped = reap_delete(TABLE_CT_ANY, key, &entry->expires, expires,
				     reap_takes_claimed(mode));
	if (pair && reaped == REAP_DELETED)
		reap_pair(key, &mapped, run, over && mode != REAP_FORCED && mode != REAP_LEAVING);
	return reaped;
}

/* Key and mapping of a half's partner: `want` is what the partner is to say. */
static __always_inline void reap_partner(const struct tuple *key, const struct nat_entry *half,
					 struct tuple *other, struct nat_entry *want)
{
	*want = *half;
	if (key->kind & KIND_IN) {
		tuple_reverse(other, key, KIND_OUT);
		other->saddr = half->addr;
		other->sport = half->port;
		want->addr = key->daddr;
		want->port = key->dport;
	} else {
		tuple_reverse(other, key, KIND_IN);
		other->daddr = half->addr;
		other->dport = half->port;
		want->addr = key->saddr;
		want->port = key->sport;
	}
}

/* Of an insertion: where somebody else's entry stands, it stays. */
static __always_inline enum reaped reap_inserted(long err)
{
	if (!err)
		return REAP_COMPLETED;
	return err == -EEXIST ? REAP_SKIPPED : REAP_FAILED;
}

/* Brings the other half of a live one back, with its class and the rest of its
 * lifetime. Where another mapping stands in its place this half is left over: its
 * port is another flow's, or its flow has another port. */
static __noinline enum reaped reap_complete(const struct tuple *key, struct reap_run *run)
{
	struct nat_entry *half = table_lookup(TABLE_SNAT, key);
	__u32 now = run->args.now;
	struct nat_entry *partner;
	struct nat_entry want;
	struct tuple other;

	if (!half || clock_expired(half->expires, now))
		return REAP_SKIPPED;
	reap_partner(key, half, &other, &want);
	partner = table_lookup(TABLE_SNAT, &other);
	if (!partner)
		return reap_inserted(table_insert(TABLE_SNAT, &other, &want));
	if ((partner->port == want.port && ip_addr_equal(&partner->addr, &want.addr)) ||
	    clock_expired(partner->expires, now) || half->created + HALF_SETTLED > now ||
	    partner->created + HALF_SETTLED > now)
		return REAP_SKIPPED;
	return reap_half(key, half, half->expires, false);
}

/* Looks at both, so that LRU takes both for used. */
static __noinline bool reap_has_half(const struct tuple *forward, const struct tuple *reverse)
{
	bool there = table_lookup(TABLE_SNAT, forward);

	barrier_var(there);
	return table_lookup(TABLE_SNAT, reverse) || there;
}

/* Brings back the pair of a live connection that has lost both halves, at the port that
 * its CT entry knows. One half that is there is enough for the other to come back;
 * and a port that is another flow's by now stays that flow's. */
static __noinline enum reaped reap_recreate(const struct tuple *key, struct reap_run *run, bool tcp)
{
	struct ct_entry *entry = reap_find_ct(key, tcp);
	struct nat_entry half = { .addr = key->saddr, .port = key->sport };
	__u32 now = run->args.now;
	struct tuple reverse;
	long err;

	if (!entry)
		return REAP_SKIPPED;
	half.expires = READ_ONCE(entry->expires);
	/* what came through a tunnel knows the frontend's port, not its own */
	if (clock_expired(half.expires, now) || !entry->nat_port ||
	    (entry->flags & (CT_FROM_TUNNEL | CT_DSR_INTERNAL)))
		return REAP_SKIPPED;
	tuple_reverse(&reverse, key, KIND_IN);
	reverse.daddr = entry->nat_addr;
	reverse.dport = entry->nat_port;
	if (reap_has_half(key, &reverse))
		return REAP_SKIPPED;
	half.class = tcp ? tcp_class(entry) : NAT_CLASS_ANY;
	if (entry->flags & CT_NODE_PORT)
		half.flags = NAT_NODE_PORT;
	else if (ip_addr_equal(&key->saddr, &reverse.daddr))
		half.flags = NAT_NEEDS_CT;
	half.created = now;
	half.rev_nat_index = entry->rev_nat_index;
	half.touched = now;
	err = table_insert(TABLE_SNAT, &reverse, &half);
	if (err)
		return reap_inserted(err);
	half.addr = reverse.daddr;
	half.port = reverse.dport;
	return reap_inserted(table_insert(TABLE_SNAT, key, &half));
}

/* A half whose connection has no CT entry any more, and its partner with it. */
static __noinline enum reaped reap_orphan(const struct tuple *key, struct nat_entry *half,
					  struct reap_run *run)
{
	struct nat_entry *partner;
	struct nat_entry want;
	struct tuple other;

	reap_partner(key, half, &other, &want);
	partner = table_lookup(TABLE_SNAT, &other);
	if (partner && partner->port == want.port && ip_addr_equal(&partner->addr, &want.addr))
		run->args.nat_deleted +=
			reap_half(&other, partner, partner->expires, false) == REAP_DELETED;
	return reap_half(key, half, half->expires, false);
}

/* Goes with its connection where that has a CT entry that the mode wants. An endpoint's that
 * leaves stays while CT still has its connection: that one closes. */
static __noinline enum reaped reap_owned(const struct tuple *key, struct nat_entry *half,
					 struct reap_run *run)
{
	bool tcp = key->proto == IPPROTO_TCP;
	struct ct_entry *owner;
	struct tuple flow = *key;

	if (key->kind & KIND_IN) {
		tuple_reverse(&flow, key, KIND_OUT);
		flow.saddr = half->addr;
		flow.sport = half->port;
	}
	owner = reap_find_ct(&flow, tcp);
	if (owner && !clock_expired(owner->expires, run->args.now)) {
		if (run->args.mode == REAP_RELIEF && reap_ct(&flow, run, tcp) == REAP_DELETED)
			return REAP_WITH_OWNER;
		return REAP_SKIPPED;
	}
	if (run->args.mode == REAP_RELIEF && !(run->args.orphans & (1U << (half->class & 3))))
		return REAP_SKIPPED;
	return reap_orphan(key, half, run);
}

static __noinline enum reaped reap_nat(const struct tuple *key, struct reap_run *run)
{
	struct nat_entry *half = table_lookup(TABLE_SNAT, key);
	__u32 expires;

	if (!half)
		return REAP_SKIPPED;
	expires = READ_ONCE(half->expires);
	if (run->args.mode == REAP_CLAIMED && expires)
		return REAP_SKIPPED;
	if (run->args.mode == REAP_FORCED || clock_expired(expires, run->args.now))
		return reap_half(key, half, expires, reap_takes_claimed(run->args.mode));
	if (run->args.mode == REAP_RELIEF ||
	    (run->args.mode == REAP_LEAVING && half->class != NAT_CLASS_CLOSING))
		return reap_owned(key, half, run);
	return REAP_SKIPPED;
}

static long reap_one(__u32 index, void *data)
{
	struct reap_run *run = data;
	enum reaped reaped;
	struct tuple key;

	if (index >= REAP_BATCH)
		return 1;
	key = run->keys->keys[index];
	if (run->args.table != TABLE_SNAT && run->args.mode == REAP_COMPLETE)
		reaped = reap_recreate(&key, run, run->args.table == TABLE_CT_TCP);
	else if (run->args.table == TABLE_CT_TCP)
		reaped = reap_ct(&key, run, true);
	else if (run->args.table == TABLE_CT_ANY)
		reaped = reap_ct(&key, run, false);
	else if (run->args.mode == REAP_COMPLETE)
		reaped = reap_complete(&key, run);
	else
		reaped = reap_nat(&key, run);
	run->args.deleted += reaped == REAP_DELETED;
	run->args.skipped += reaped == REAP_SKIPPED;
	run->args.completed += reaped == REAP_COMPLETED;
	run->args.failed += reaped == REAP_FAILED;
	return 0;
}

SEC("syscall")
int reap(struct reap_args *args)
{
	__u32 zero = 0;
	struct reap_run run = {
		.keys = bpf_map_lookup_elem(&reap_keys, &zero),
		.args = *args,
	};

	if (!run.keys || args->count > REAP_BATCH)
		return -1;
	run.args.now = clock_now();
	bpf_loop(args->count, reap_one, &run, 0);
	*args = run.args;
	return 0;
}

SEC("syscall")
int read_clock(struct clock_sample *sample)
{
	sample->jiffies = bpf_jiffies64();
	sample->monotonic_ns = bpf_ktime_get_ns();
	return 0;
}
