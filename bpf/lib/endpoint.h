/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A pod's link, from the host's side: what it sends, and what it is sent. */
#pragma once

#include "conntrack.h"
#include "parse.h"
#include "rewrite.h"
#include "route.h"

/* Packets that no flow is kept for: they stay on their link, or have no ports. */
static __always_inline bool packet_is_untracked(const struct packet *packet)
{
	return packet->l4 == L4_NEIGHBOUR || packet->l4 == L4_FRAGMENT ||
	       packet->l4 == L4_ICMP_ERROR || ip_addr_is_link_scoped(&packet->tuple.saddr) ||
	       ip_addr_is_link_scoped(&packet->tuple.daddr);
}

/* Records a flow that conntrack called NEW, unless an old entry took it in. */
static __always_inline int endpoint_record(struct __sk_buff *skb, const struct packet *packet,
					   const struct ct *ct, __u32 identity, __u32 now)
{
	struct ct_origin origin = { .src_identity = identity, .companion = true };

	if (ct->entry)
		return 0;
	return ct_create(skb, packet, &ct->key, &origin, now) ? -DROP_CT_INSERT : 0;
}

/* The receiving side of conntrack, at to_endpoint or before a redirect past it. */
static __always_inline int endpoint_track_receive(struct __sk_buff *skb,
						  const struct packet *packet, __u32 identity,
						  __u32 now)
{
	struct ct ct;

	ct.companion = true;
	ct_track(skb, packet, CT_RX, now, &ct);
	return endpoint_record(skb, packet, &ct, identity, now);
}

/* Towards another pod of this node. */
static __always_inline int endpoint_to_pod(struct __sk_buff *skb, const struct packet *packet,
					   const struct endpoint *to, __u32 identity, __u32 now)
{
	int drop;

	if (!route_reaches(to, packet) || to->ifindex == skb->ifindex)
		return VERDICT_PASS;
	drop = endpoint_track_receive(skb, packet, identity, now);
	return drop ? drop : route_deliver(skb, to);
}

/* The way out: for the rest of a second in which conntrack vouches for the flow, the
 * one that its last look gave. */
static __always_inline bool endpoint_route(struct __sk_buff *skb, const struct packet *packet,
					   const struct ct *ct, struct route *route)
{
	bool routed;

	if (ct->entry && ct->handoff.nat_port && route_recall(ct->entry, packet, route))
		return true;
	routed = route_lookup(skb, packet, route);
	if (ct->entry && ct->entry->nat_port)
		route_remember(ct->entry, route, routed);
	return routed;
}

/* What conntrack vouches for leaves as the node from here; with anything else, a
 * port that went with another address among it, to_netdev is told what is known. */
static __always_inline int endpoint_leave(struct __sk_buff *skb, const struct packet *packet,
					  const struct ct *ct, const struct device *device,
					  __u32 identity)
{
	if (!device || !ct->entry || !ct->handoff.nat_port || !packet_is_carried(packet) ||
	    !ip_addr_equal(&device->addr, &ct->entry->nat_addr)) {
		handoff_write(skb, &ct->handoff, identity);
		return 0;
	}
	handoff_write_translated(skb);
	return rewrite(skb, packet, REWRITE_SOURCE, &device->addr, ct->handoff.nat_port);
}

/* Towards another machine. to_netdev records a new flow once it knows its port;
 * where there is none on the way, it is recorded here. */
static __always_inline int endpoint_to_world(struct __sk_buff *skb, const struct packet *packet,
					     struct ct *ct, __u32 identity, __u32 now)
{
	struct route route = {};
	bool routed = endpoint_route(skb, packet, ct, &route);
	struct device *device = routed ? device_lookup(route.ifindex) : NULL;
	int drop = 0;

	if (device && !ct->entry)
		ct->handoff.deferred = 1;
	else
		drop = endpoint_record(skb, packet, ct, identity, now);
	if (drop || !routed)
		return drop ? drop : VERDICT_PASS;
	drop = endpoint_leave(skb, packet, ct, device, identity);
	return drop ? drop : route_forward(skb, &route);
}

/* from_endpoint: source check, conntrack, route. */
static __always_inline int endpoint_send(struct __sk_buff *skb, const struct packet *packet,
					 __u32 now)
{
	struct endpoint *from, *to;
	__u32 identity;
	struct ct ct;
	int drop;

	if (ip_addr_is_link_scoped(&packet->tuple.saddr))
		return VERDICT_PASS;
	from = endpoint_lookup(&packet->tuple.saddr);
	if (!endpoint_is_pod(from) || from->ifindex != skb->ifindex)
		return -DROP_INVALID_SOURCE;
	if (packet_is_untracked(packet))
		return VERDICT_PASS;
	identity = from->identity;

	ct.companion = true;
	ct_track(skb, packet, CT_TX, now, &ct);
	/* a flow that left as the node in this second was for nobody here */
	to = ct.handoff.nat_port ? NULL : endpoint_lookup(&packet->tuple.daddr);
	if (!to)
		return endpoint_to_world(skb, packet, &ct, identity, now);
	drop = endpoint_record(skb, packet, &ct, identity, now);
	if (drop)
		return drop;
	if (!endpoint_is_pod(to))
		return VERDICT_PASS;
	return endpoint_to_pod(skb, packet, to, identity, now);
}

/* to_endpoint: conntrack, for what came through the stack. */
static __always_inline int endpoint_receive(struct __sk_buff *skb, const struct packet *packet,
					    __u32 now)
{
	bool tracked =
		CTX_LOAD(skb, tc_index) == TRACKED_BY_NETDEV && CTX_LOAD(skb, ingress_ifindex);
	int drop = 0;

	if (!tracked && !packet_is_untracked(packet)) {
		struct endpoint *from = endpoint_lookup(&packet->tuple.saddr);

		drop = endpoint_track_receive(skb, packet, from ? from->identity : 0, now);
	}
	handoff_scrub(skb);
	return drop;
}
