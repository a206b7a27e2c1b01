/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a packet goes next, as a router decides it (RFC 1812, 5.2). */
#pragma once

#include "handoff.h"
#include "packet.h"
#include "../maps.h"

struct route {
	__u32 ifindex;
	struct bpf_redir_neigh hop;
};

static __always_inline struct endpoint *endpoint_lookup(const struct ip_addr *addr)
{
	return bpf_map_lookup_elem(&endpoints, addr);
}

static __always_inline bool endpoint_is_pod(const struct endpoint *endpoint)
{
	return endpoint && !(endpoint->flags & ENDPOINT_HOST);
}

static __always_inline struct device *device_lookup(__u32 ifindex)
{
	return bpf_map_lookup_elem(&devices, &ifindex);
}

/* enum prefix_flag of the longest prefix around an address. */
static __always_inline __u32 prefix_flags(const struct ip_addr *addr)
{
	struct prefix_key key = { .prefixlen = sizeof(*addr) * 8, .addr = *addr };
	struct prefix *prefix = bpf_map_lookup_elem(&prefixes, &key);

	return prefix ? prefix->flags : 0;
}

/* The next hop. False leaves the packet to the stack: no route, too big for it,
 * forwarding off, the last hop spent, a route that only the stack can follow. */
__noinline bool route_lookup(struct __sk_buff *skb, const struct packet *packet,
			     struct route *route)
{
	struct bpf_fib_lookup fib = {
		.family = FAMILY_AF,
		.ifindex = skb->ifindex,
	};
	int result;

	if (!packet || !route || !config.fast_routing || packet->ttl <= 1)
		return false;
	fib.l4_protocol = packet->tuple.proto;
	fib.tot_len = packet->l3_len;
	ip_fib_request(&fib, packet);
	/* rules and multipath routes may ask for them; other protocols have none */
	if (packet_has_ports(packet)) {
		fib.sport = packet->tuple.sport;
		fib.dport = packet->tuple.dport;
	}
	/* the neighbour is resolved by the redirect: 6.3 can leave it out here */
	result = bpf_fib_lookup(skb, &fib, sizeof(fib),
				config.fib_skip_neigh ? BPF_FIB_LOOKUP_SKIP_NEIGH : 0);
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return false;
	route->ifindex = fib.ifindex;
	ip_fib_next_hop(&route->hop, &fib);
	return true;
}

/* The route that conntrack's word holds for, where its length cannot matter. */
static __always_inline bool route_recall(const struct ct_entry *entry, const struct packet *packet,
					 struct route *route)
{
	if (!entry->next_ifindex || packet->ttl <= 1 || packet->l3_len > FAMILY_FITS_ALWAYS)
		return false;
	route->ifindex = entry->next_ifindex;
	route->hop.nh_family = FAMILY_AF;
	__builtin_memcpy(route->hop.ipv6_nh, &entry->next_hop, sizeof(entry->next_hop));
	return true;
}

/* Keeps the route for the rest of the second, unless the next hop is of the other family. */
static __always_inline void route_remember(struct ct_entry *entry, const struct route *route,
					   bool routed)
{
	__u32 ifindex = routed && route->hop.nh_family == FAMILY_AF ? route->ifindex : 0;
	struct ip_addr hop;

	__builtin_memcpy(&hop, route->hop.ipv6_nh, sizeof(hop));
	if (entry->next_ifindex == ifindex && (!ifindex || ip_addr_equal(&entry->next_hop, &hop)))
		return;
	entry->next_hop = hop;
	WRITE_ONCE(entry->next_ifindex, ifindex);
}

/* Can a packet be put straight into the pod? */
static __always_inline bool route_reaches(const struct endpoint *endpoint,
					  const struct packet *packet)
{
	return config.fast_routing && (endpoint->flags & ENDPOINT_PEER) && packet->ttl > 1 &&
	       (!endpoint->mtu || packet->l3_len <= endpoint->mtu);
}

/* Into the pod, past the host side of its link; to_endpoint does not run. */
static __always_inline int route_deliver(struct __sk_buff *skb, const struct endpoint *endpoint)
{
	__u32 ifindex = endpoint->ifindex;

	if (ip_decrement_ttl(skb))
		return -DROP_REWRITE;
	handoff_scrub(skb);
	bpf_redirect_peer(ifindex, 0);
	return VERDICT_DELIVER;
}

static __always_inline int route_forward(struct __sk_buff *skb, struct route *route)
{
	if (ip_decrement_ttl(skb))
		return -DROP_REWRITE;
	bpf_redirect_neigh(route->ifindex, &route->hop, sizeof(route->hop), 0);
	return VERDICT_FORWARD;
}
