/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way to another node, and which of what comes from there is believed. */
#pragma once

#include "geneve.h"
#include "mss.h"
#include "route.h"

/* The node that has an address, or 0. */
static __always_inline __be32 tunnel_node(const struct ip_addr *addr)
{
	struct prefix_key key = { .prefixlen = sizeof(*addr) * 8, .addr = *addr };
	struct prefix *prefix = bpf_map_lookup_elem(&prefixes, &key);

	return prefix ? prefix->tunnel : 0;
}

/* The way to ends->remote for a packet of `length` bytes of layer 3, tunnel included, and this
 * node's address on it. 0; what the way carries at most, when that is less; or a
 * negative drop reason. */
__noinline int tunnel_route(struct __sk_buff *skb, struct geneve_ends *ends, struct route *route,
			    __u32 length)
{
	struct bpf_fib_lookup fib = {
		.family = 2, /* AF_INET */
		.l4_protocol = IPPROTO_UDP,
		.dport = bpf_htons(GENEVE_PORT),
		.tot_len = length,
		.ifindex = skb->ifindex,
	};
	struct device *device;
	int result;

	if (!ends || !route)
		return -DROP_TUNNEL_NO_NODE;
	fib.ipv4_dst = ends->remote;
	result = bpf_fib_lookup(skb, &fib, sizeof(fib),
				config.fib_skip_neigh ? BPF_FIB_LOOKUP_SKIP_NEIGH : 0);
	if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return fib.mtu_result;
	if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
		return -DROP_TUNNEL_NO_NODE;
	device = device_lookup(fib.ifindex);
	if (!device || !device->tunnel_addr)
		return -DROP_TUNNEL_NO_NODE;
	ends->local = device->tunnel_addr;
	route->ifindex = fib.ifindex;
	ip_fib_next_hop(&route->hop, &fib);
	return 0;
}

/* The payload of a TCP segment that fits a tunnel over the network of this device, or 0. */
static __always_inline __u32 tunnel_mss(struct __sk_buff *skb, __u32 ifindex)
{
	__u32 costs = GENEVE_OVERHEAD + sizeof(struct ip_header) + TCP_HEADER;
	__u32 mtu = 0;

	bpf_check_mtu(skb, ifindex, &mtu, 0, 0);
	return mtu > costs ? mtu - costs : 0;
}

/* The answer to a packet out of a tunnel, which leaves by `ifindex`: a SYN-ACK is to promise no
 * more than a tunnel can bring. `size` bytes of TCP's header at `tcp`. Global, and without a
 * branch at its callers: those have too many states for the verifier as it is. */
__noinline int tunnel_promise(struct __sk_buff *skb, __u32 tcp_flags, __u32 tcp, __u32 size,
			      __u32 ifindex)
{
	__u32 most;

	if (!tcp_promises(tcp_flags))
		return 0;
	most = tunnel_mss(skb, ifindex);
	return most ? mss_clamp(skb, tcp, size, most) : 0;
}

/* Beside enum verdict: somebody else's packet, to be left alone. */
#define TUNNEL_NOT_OURS VERDICT_COUNT

/* Takes a packet out of its tunnel. 0, TUNNEL_NOT_OURS, or a negative drop reason. */
static __noinline int tunnel_open(struct __sk_buff *skb, struct packet *packet,
				  struct geneve_ends *ends)
{
	struct device *device = device_lookup(skb->ifindex);
	__u8 class;

	if (!device || !device->tunnel_addr || !geneve_peek(skb, ends, &class) ||
	    ends->local != device->tunnel_addr)
		return TUNNEL_NOT_OURS;
	if (!bpf_map_lookup_elem(&tunnel_peers, &ends->remote))
		return -DROP_TUNNEL_SOURCE;
	handoff_clear(skb);
	if (packet_untag(skb))
		return -DROP_MALFORMED;
	return geneve_unwrap(skb, packet, class);
}
