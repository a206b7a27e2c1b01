/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Masquerade and its repair.
 *
 * Three records know a flow's port: forward half, reverse half, and the CT
 * entry. Whichever direction a packet comes from, it makes sure that the others
 * are there again, and never for a flow that does not own them.
 */
#pragma once

#include "conntrack.h"
#include "port_alloc.h"

struct nat_mapping {
	struct ip_addr addr;
	__be16 port;
	__u16 pad;
};

static __always_inline bool nat_range_contains(const struct device *device,
					       const struct packet *packet, __be16 port)
{
	__u16 host = bpf_ntohs(port);

	if (packet_is_echo(packet))
		return true;
	return packet_has_ports(packet) && host >= device->port_min && host <= device->port_max;
}

static __always_inline void nat_reverse_key(struct tuple *key, const struct tuple *flow,
					    const struct nat_mapping *mapping)
{
	tuple_reverse(key, flow, KIND_IN);
	key->daddr = mapping->addr;
	key->dport = mapping->port;
}

/* Lets a half follow its CT entry; true when its partner is due for a look: once
 * a second, or when the class changes. A CT entry that had to be guessed anew
 * raises a half, but never shortens it; a new connection or a closing one sets it. */
static __always_inline bool nat_follow(struct nat_entry *half, const struct handoff *ct, __u32 now)
{
	__u32 expires = ct->expires;
	__u8 class = ct->class;

	if (!ct->fresh && class != NAT_CLASS_CLOSING) {
		if (half->class == NAT_CLASS_ESTABLISHED && class == NAT_CLASS_SYN)
			class = NAT_CLASS_ESTABLISHED;
		if (half->expires > expires)
			expires = half->expires;
	}
	if (half->touched == (__u16)now && half->class == class)
		return false;
	if (ct->fresh || ct->rev_nat_index)
		half->rev_nat_index = ct->rev_nat_index;
	half->class = class;
	half->touched = now;
	WRITE_ONCE(half->expires, expires);
	return true;
}

static __always_inline void nat_copy_life(struct nat_entry *to, const struct nat_entry *from)
{
	to->rev_nat_index = from->rev_nat_index;
	to->class = from->class;
	to->touched = from->touched;
	WRITE_ONCE(to->expires, from->expires);
}

/* Makes the entry that stands in a half's place that half, unless it was changed
 * since `expires` was read, or is just being deleted. */
static __always_inline bool nat_replace(struct nat_entry *half, __u32 expires,
					const struct nat_entry *with)
{
	if (__sync_val_compare_and_swap(&half->expires, expires, 0) != expires)
		return false;
	half->addr = with->addr;
	half->port = with->port;
	half->flags = with->flags;
	half->created = with->created;
	nat_copy_life(half, with);
	return true;
}

/* The forward half of `flow`, from its reverse half. A flow that has another
 * port by now keeps it. */
__noinline int nat_restore_forward(const struct tuple *flow, const struct nat_mapping *mapping,
				   const struct nat_entry *reverse, __u32 now)
{
	struct nat_entry *forward;
	struct nat_entry entry;
	struct tuple key;
	__u32 expires;
	bool same;

	if (!flow || !mapping || !reverse)
		return 0;
	key = *flow;
	forward = table_lookup(TABLE_SNAT, &key);
	entry = *reverse;
	entry.addr = mapping->addr;
	entry.port = mapping->port;
	if (!forward) {
		if (!table_insert(TABLE_SNAT, &key, &entry))
			count(COUNTER_RESTORED + RESTORED_FORWARD);
		return 0;
	}
	same = forward->port == mapping->port && ip_addr_equal(&forward->addr, &mapping->addr);
	expires = READ_ONCE(forward->expires);
	if (clock_expired(expires, now)) {
		if (expires && nat_replace(forward, expires, &entry))
			count(COUNTER_RESTORED + RESTORED_FORWARD);
	} else if (same) {
		nat_copy_life(forward, reverse);
	}
	return 0;
}

/* A packet from the world to the device: whose is it? Fills `flow` with the key
 * of the flow it answers. NULL: nobody's. */
static __always_inline struct nat_entry *nat_find_reverse(const struct packet *packet,
							  struct tuple *flow, __u32 now)
{
	struct tuple key = packet->tuple;
	struct nat_entry *reverse;

	key.kind = KIND_IN;
	reverse = table_lookup(TABLE_SNAT, &key);
	if (!reverse || clock_expired(reverse->expires, now))
		return NULL;
	tuple_reverse(flow, &packet->tuple, KIND_OUT);
	flow->saddr = reverse->addr;
	flow->sport = reverse->port;
	return reverse;
}

/* An outgoing flow at its egress device. */
struct nat_flow {
	const struct tuple *key; /* forward key */
	const struct handoff *ct;
	const struct device *device;
	__u32 now;
	__u8 l4;
	__u8 tcp_flags;
	__u8 flags; /* enum nat_flag */
};

static __always_inline void nat_flow_init(struct nat_flow *flow, const struct packet *packet,
					  const struct device *device,
					  const struct handoff *handoff, __u32 now)
{
	flow->key = &packet->tuple;
	flow->ct = handoff;
	flow->device = device;
	flow->now = now;
	flow->l4 = packet->l4;
	flow->tcp_flags = packet->tcp_flags;
	flow->flags = handoff->pod ? 0 : NAT_NEEDS_CT;
	if (handoff->node_port)
		flow->flags = NAT_NODE_PORT;
}

static __always_inline void port_search_init(struct port_search *search, struct __sk_buff *skb,
					     const struct nat_flow *flow)
{
	const struct device *device = flow->device;
	bool echo = flow->l4 == L4_ECHO_REQUEST;

	__builtin_memset(search, 0, sizeof(*search));
	search->skb = skb;
	search->forward = flow->key;
	tuple_reverse(&search->reverse, flow->key, KIND_IN);
	search->reverse.daddr = device->addr;
	search->owner.addr = flow->key->saddr;
	search->owner.port = flow->key->sport;
	search->owner.class = flow->ct->class;
	search->owner.rev_nat_index = flow->ct->rev_nat_index;
	search->owner.flags = flow->flags;
	search->owner.expires = flow->ct->expires;
	search->owner.created = flow->now;
	search->owner.touched = flow->now;
	search->now = flow->now;
	search->l4 = flow->l4;
	search->min = echo ? 0 : device->port_min;
	search->range = echo ? 65536 : device->port_max - device->port_min + 1;
}

/* The reverse half of a flow whose forward half is there: refreshed, or brought
 * back. False: another flow has the port by now. */
__noinline bool nat_restore_reverse(struct __sk_buff *skb, const struct packet *packet,
				    const struct handoff *handoff, const struct device *device,
				    struct nat_entry *forward)
{
	struct nat_flow flow = {};
	struct port_search search;
	struct nat_entry *reverse;

	if (!packet || !handoff || !device || !forward)
		return true;
	nat_flow_init(&flow, packet, device, handoff, clock_now());
	port_search_init(&search, skb, &flow);
	search.reverse.dport = forward->port;
	search.owner.class = forward->class;
	search.owner.expires = forward->expires;
	search.owner.created = forward->created;
	search.owner.flags = forward->flags;
	search.owner.rev_nat_index = forward->rev_nat_index;
	if (port_look(&search, &reverse) == PORT_OURS) {
		nat_copy_life(reverse, forward);
		return true;
	}
	switch (port_claim(&search)) {
	case PORT_RESERVED:
		count(COUNTER_RESTORED + RESTORED_REVERSE);
		return true;
	case PORT_ADOPTED: /* by another CPU, with a packet of this flow */
	case PORT_ERROR:   /* not lost to anybody: tried again in a second */
		return true;
	default:
		return false;
	}
}

static __always_inline void nat_full_key(struct tuple *key, const struct port_search *search)
{
	*key = *search->forward;
	key->saddr = search->reverse.daddr;
	key->sport = 0;
}

static __noinline struct nat_full *nat_full_find(const struct port_search *search)
{
	struct tuple key;

	nat_full_key(&key, search);
	return bpf_map_lookup_elem(&nat_full, &key);
}

/* Tries what CT remembers, then, for a connection in its middle, every candidate
 * for a reverse half that is still ours. A connection that begins in an old
 * entry has lost nothing. */
static __always_inline bool nat_adopt(struct port_search *search, const struct nat_flow *flow,
				      const struct ct_entry *ct, const struct nat_full *full)
{
	__u32 expires;

	if (ct && ip_addr_equal(&ct->nat_addr, &search->reverse.daddr)) {
		search->reverse.dport = ct->nat_port;
		search->outcome = port_claim(search);
		if (search->outcome == PORT_RESERVED && !flow->ct->fresh) {
			count(COUNTER_RESTORED + RESTORED_FORWARD);
			count(COUNTER_RESTORED + RESTORED_REVERSE);
		} else if (search->outcome == PORT_ADOPTED) {
			count(COUNTER_RESTORED + RESTORED_ADOPTED);
		}
		if (search->outcome != PORT_NONE)
			return true;
	}
	if (flow->l4 != L4_TCP || (flow->tcp_flags & TCP_SYN))
		return false;
	expires = full ? full->scanned_until : 0;
	search->adopt_only = 1;
	bpf_loop(port_attempts(search, !clock_expired(expires, search->now)), port_attempt, search,
		 0);
	search->adopt_only = 0;
	if (search->outcome != PORT_ADOPTED)
		return false;
	count(COUNTER_RESTORED + RESTORED_ADOPTED);
	return true;
}

/* Remembers what the search found out about the destination. */
static __noinline int nat_remember_full(struct port_search *search, struct nat_full *known)
{
	struct nat_full full = {};
	struct tuple key;

	if (known)
		full = *known;
	if (search->outcome == PORT_NONE)
		full.until = search->now + 1;
	else
		full.scanned_until = search->now + config.timeout_tcp;
	nat_full_key(&key, search);
	return bpf_map_update_elem(&nat_full, &key, &full, BPF_ANY);
}

/* Finds a port for a flow without a forward half. 0 or a drop reason. */
static __always_inline int nat_find_port(struct port_search *search, const struct nat_flow *flow,
					 const struct ct_entry *ct)
{
	struct nat_full *full = nat_full_find(search);

	search->hash = port_hash(search->forward);
	if (config.restore && nat_adopt(search, flow, ct, full))
		return search->outcome == PORT_ERROR ? -DROP_NAT_INSERT : 0;
	if (full && !clock_expired(full->until, search->now))
		return -DROP_NAT_FULL;

	search->outcome = PORT_NONE;
	bpf_loop(port_attempts(search, true), port_attempt, search, 0);
	if (search->attempts >= NAT_PROBES / 2)
		event_nat_pressure(search->now);
	if (search->outcome == PORT_NONE) {
		count(COUNTER_NAT_ATTEMPTS + NAT_ATTEMPT_FAILED);
		nat_remember_full(search, full);
		return -DROP_NAT_NO_PORT;
	}
	if (search->outcome == PORT_ERROR)
		return -DROP_NAT_INSERT;
	if (search->attempts >= NAT_PROBES) {
		count(COUNTER_NAT_ATTEMPTS + NAT_ATTEMPT_SCANNED);
		nat_remember_full(search, full);
	} else {
		count(COUNTER_NAT_ATTEMPTS + search->attempts);
	}
	if (search->outcome == PORT_ADOPTED)
		count(COUNTER_RESTORED + RESTORED_ADOPTED);
	return 0;
}

/* Writes the forward half over whatever stands there: where that is claimed, once it
 * is gone, or when it stays so (ct_insert_new). */
static __noinline int nat_write_forward(const struct port_search *search)
{
	struct nat_entry entry = search->owner;
	struct nat_entry *forward;
	__u32 expires;
	long err;

	entry.addr = search->reverse.daddr;
	entry.port = search->reverse.dport;
	for (int i = 0; i <= CLAIM_TRIES; i++) {
		err = table_insert(TABLE_SNAT, search->forward, &entry);
		if (err != -EEXIST)
			return err ? -DROP_NAT_INSERT : 0;
		forward = table_lookup(TABLE_SNAT, search->forward);
		if (!forward)
			continue;
		expires = READ_ONCE(forward->expires);
		if ((expires || i == CLAIM_TRIES) && nat_replace(forward, expires, &entry))
			return 0;
	}
	return -DROP_NAT_INSERT;
}

static __always_inline void nat_tell_conntrack(struct ct_entry *ct,
					       const struct nat_mapping *mapping)
{
	if (!ct)
		return;
	ct->nat_addr = mapping->addr;
	ct->nat_port = mapping->port;
}

/* Both halves are there: until the second is over, CT vouches for them. */
static __always_inline void nat_looked(const struct tuple *key, const struct handoff *handoff,
				       const struct nat_mapping *mapping, __u32 now)
{
	struct ct_entry *ct;

	if (!config.restore || handoff->deferred)
		return;
	ct = ct_lookup(key);
	if (!ct || ct->nat_port != mapping->port)
		return;
	ct->nat_class = handoff->class;
	WRITE_ONCE(ct->nat_looked, (__u16)now);
}

/* Gives a flow without a usable forward half its port, the old one if any
 * record still knows it. 0 or a drop reason. */
__noinline int nat_open(struct __sk_buff *skb, const struct packet *packet,
			const struct handoff *handoff, const struct device *device,
			struct nat_mapping *mapping)
{
	struct nat_flow flow = {};
	struct tuple key;
	struct nat_entry *reverse;
	struct port_search search;
	struct ct_entry *ct;
	int drop;

	if (!packet || !handoff || !device || !mapping)
		return -DROP_NAT_INSERT;
	nat_flow_init(&flow, packet, device, handoff, clock_now());
	/* until 6.4 no map takes a key out of a global function's arguments */
	key = packet->tuple;
	flow.key = &key;
	ct = handoff->deferred ? NULL : ct_lookup(&key);
	port_search_init(&search, skb, &flow);
	drop = nat_find_port(&search, &flow, ct);
	if (!drop) {
		if (search.outcome == PORT_ADOPTED) {
			reverse = table_lookup(TABLE_SNAT, &search.reverse);
			if (reverse)
				nat_follow(reverse, handoff, flow.now);
		}
		drop = nat_write_forward(&search);
		if (drop && search.outcome == PORT_RESERVED)
			table_delete(TABLE_SNAT, &search.reverse);
	}
	if (drop) {
		/* nothing stays behind for a flow that never got through */
		if (ct && (ct->seen & CT_SEEN_BOTH) == CT_SEEN_TX && !ct->nat_port)
			ct_delete(&key);
		return drop;
	}
	mapping->addr = search.reverse.daddr;
	mapping->port = search.reverse.dport;
	nat_tell_conntrack(ct, mapping);
	return 0;
}

/* Deletes the reverse half of a mapping that the device cannot keep. */
static __noinline void nat_abandon(const struct tuple *flow, const struct nat_entry *forward)
{
	struct nat_mapping mapping = { .addr = forward->addr, .port = forward->port };
	struct nat_entry *reverse;
	struct tuple key;

	nat_reverse_key(&key, flow, &mapping);
	reverse = table_lookup(TABLE_SNAT, &key);
	if (reverse && nat_half_leads_to(reverse, flow))
		table_delete(TABLE_SNAT, &key);
}

/* What a flow leaves as: its mapping, kept, repaired or new. `forward` is live, or
 * NULL. 0 or a drop reason. */
static __always_inline int nat_outgoing(struct __sk_buff *skb, const struct packet *packet,
					const struct device *device, const struct handoff *handoff,
					struct nat_entry *forward, struct nat_mapping *mapping,
					__u32 now)
{
	const struct tuple *key = &packet->tuple;

	if (forward) {
		bool ours = ip_addr_equal(&forward->addr, &device->addr);

		if (ours) {
			mapping->addr = forward->addr;
			mapping->port = forward->port;
			if (handoff->unmapped)
				nat_tell_conntrack(ct_lookup(key), mapping);
			if (!nat_follow(forward, handoff, now) || !config.restore ||
			    nat_restore_reverse(skb, packet, handoff, device, forward)) {
				nat_looked(key, handoff, mapping, now);
				return 0;
			}
		} else {
			nat_abandon(key, forward);
		}
	}
	return nat_open(skb, packet, handoff, device, mapping);
}
