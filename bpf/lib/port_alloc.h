/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which port a masqueraded flow leaves with.
 *
 * Candidates come in a fixed order for a flow: the port it brought, then keyed
 * independent probes, then a walk in long strides. The same flow therefore finds
 * its old port again, and an outsider cannot guess the next one. Inserting the
 * reverse half with NOEXIST is the reservation: there is no other lock.
 */
#pragma once

#include "table.h"
#include "clock.h"
#include "packet.h"

/* Strides of the walk: primes beyond every range, so that it meets each port once.
 * Flows differ in theirs: with one for all, used ports cluster along it, and whole
 * walks find nothing while one port in a hundred is free. */
#define PORT_STRIDES 16
static const __u32 port_strides[PORT_STRIDES] = {
	68483,  75787,  87613,  94933,  106739, 114041, 118549, 125863,
	137699, 144983, 149489, 156797, 168617, 175919, 187751, 195043,
};

/* A flow that is looking for its port. */
struct port_search {
	struct __sk_buff *skb;
	const struct tuple *forward; /* the flow as its endpoint sends it */
	struct tuple reverse;        /* dport is the candidate, network order */
	struct nat_entry owner;      /* what the reverse half is to say */
	__u64 hash;
	__u32 range; /* ports from `min` on */
	__u32 now;
	__u32 attempts; /* candidates looked at */
	__u16 min;
	__u8 l4;
	__u8 outcome; /* enum port_outcome */
	__u8 adopt_only;
};

enum port_outcome {
	PORT_NONE = 0,
	PORT_RESERVED,
	PORT_ADOPTED, /* its reverse half was there already */
	PORT_ERROR,   /* the table refused the entry */
};

enum port_state {
	PORT_FREE,
	PORT_OURS,
	PORT_EXPIRED, /* whoever had it: the first to take it over has it */
	PORT_TAKEN,
};

static __always_inline __u64 port_mix(__u64 hash)
{
	hash ^= hash >> 32;
	hash *= 0xd6e8feb86659fd93ULL;
	hash ^= hash >> 32;
	hash *= 0xd6e8feb86659fd93ULL;
	return hash ^ hash >> 32;
}

/* Keyed with the node's secret, which stays the same for the life of the pins. */
static __always_inline __u64 port_hash(const struct tuple *flow)
{
	const __u32 *words = (const __u32 *)flow;
	__u64 hash = config.secret[0];

	for (int i = 0; i < sizeof(*flow) / sizeof(*words); i++)
		hash = port_mix(hash ^ words[i]) + config.secret[1];
	return hash;
}

/* The candidate of an attempt, host order, inside the range. */
static __always_inline __u32 port_candidate(const struct port_search *search, __u32 attempt)
{
	__u32 own = bpf_ntohs(search->forward->sport);
	__u32 draw = attempt < NAT_PROBES ? attempt : NAT_PROBES;
	__u64 hash = port_mix(search->hash + draw * 0x9e3779b97f4a7c15ULL) >> 32;
	__u32 offset = hash * search->range >> 32;
	__u32 stride;

	if (attempt == 0 && own - search->min < search->range)
		return own;
	if (attempt > NAT_PROBES) {
		stride = port_strides[search->hash % PORT_STRIDES];
		offset = (offset + (attempt - NAT_PROBES) * stride) % search->range;
	}
	return search->min + offset;
}

static __always_inline enum port_state port_look(struct port_search *search,
						 struct nat_entry **entry)
{
	*entry = table_lookup(TABLE_SNAT, &search->reverse);
	if (!*entry)
		return PORT_FREE;
	if (clock_expired((*entry)->expires, search->now))
		return PORT_EXPIRED;
	return nat_half_leads_to(*entry, search->forward) ? PORT_OURS : PORT_TAKEN;
}

/* Would the answer reach a socket of the node? Connected, listening, TIME_WAIT
 * and unconnected UDP ones count: their ports are never shadowed. */
static __always_inline bool port_has_socket(struct __sk_buff *skb, __u8 l4,
					    const struct tuple *answer)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = ip_sock_tuple(&tuple, answer);
	struct bpf_sock *sock;

	if (l4 == L4_TCP)
		sock = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else if (l4 == L4_UDP)
		sock = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		return false;
	if (!sock)
		return false;
	bpf_sk_release(sock);
	return true;
}

/* Is it a service's port? Whoever connects to it would be taken for the peer. */
static __always_inline bool port_has_service(const struct tuple *answer)
{
	struct service_key key = {
		.addr = answer->daddr,
		.port = answer->dport,
		.proto = answer->proto,
	};

	return bpf_map_lookup_elem(&services, &key);
}

/* Takes over an entry that has expired: of the CPUs that try, the one that
 * swaps `expires` does. Readers take 0 for expired until the owner is written. */
static __always_inline bool port_take_over(struct port_search *search, struct nat_entry *entry)
{
	__u32 expires = READ_ONCE(entry->expires);

	if (!expires || !clock_expired(expires, search->now) ||
	    !table_is_settled(TABLE_SNAT, &search->reverse, entry) ||
	    __sync_val_compare_and_swap(&entry->expires, expires, 0) != expires)
		return false;
	entry->addr = search->owner.addr;
	entry->port = search->owner.port;
	entry->class = search->owner.class;
	entry->flags = search->owner.flags;
	entry->created = search->owner.created;
	entry->rev_nat_index = search->owner.rev_nat_index;
	entry->touched = search->owner.touched;
	WRITE_ONCE(entry->expires, search->owner.expires);
	return true;
}

/* Makes the candidate in search->reverse ours if nobody else's: neither another
 * flow's nor a socket's. */
static __always_inline enum port_outcome port_claim(struct port_search *search)
{
	struct nat_entry *entry;
	enum port_state state = port_look(search, &entry);
	long err;

	if (state == PORT_OURS)
		return config.restore ? PORT_ADOPTED : PORT_NONE;
	if (state == PORT_TAKEN || port_has_service(&search->reverse) ||
	    port_has_socket(search->skb, search->l4, &search->reverse))
		return PORT_NONE;
	if (entry && state == PORT_EXPIRED) {
		if (port_take_over(search, entry))
			return PORT_RESERVED;
	} else {
		err = table_insert(TABLE_SNAT, &search->reverse, &search->owner);
		if (!err)
			return PORT_RESERVED;
		if (err != -EEXIST)
			return PORT_ERROR;
	}
	/* another CPU was first, perhaps with a packet of this very flow */
	return port_look(search, &entry) == PORT_OURS ? PORT_ADOPTED : PORT_NONE;
}

/* bpf_loop callback: one candidate. */
static long port_attempt(__u32 attempt, void *data)
{
	struct port_search *search = data;
	struct nat_entry *entry;

	search->attempts = attempt;
	search->reverse.dport = bpf_htons(port_candidate(search, attempt));
	if (!search->adopt_only)
		search->outcome = port_claim(search);
	else if (port_look(search, &entry) == PORT_OURS)
		search->outcome = PORT_ADOPTED;
	return search->outcome != PORT_NONE;
}

/* How many candidates a flow has: a transport whose port cannot be rewritten
 * has its own, or none. */
static __always_inline __u32 port_attempts(const struct port_search *search, bool scan)
{
	__u32 walk = search->range < NAT_SCAN ? search->range : NAT_SCAN;

	if (search->l4 == L4_SCTP)
		return bpf_ntohs(search->forward->sport) - (__u32)search->min < search->range;
	return NAT_PROBES + (scan ? walk : 0);
}
