/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* from_netdev: answers to masqueraded flows, and what the world opens. */
#pragma once

#include "endpoint.h"
#include "rewrite.h"
#include "snat.h"

/* Does the flow of a reverse half still live? Its CT entry decides, and is made
 * anew when it was lost: as OUT, since the translation proves who opened it. */
static __always_inline bool ingress_track(struct __sk_buff *skb, const struct packet *packet,
					  const struct tuple *flow,
					  const struct nat_mapping *mapping,
					  struct nat_entry *reverse, struct endpoint *pod,
					  __u32 now, struct handoff *handoff)
{
	struct ct_entry *entry = ct_lookup(flow);
	struct ct_origin origin = {};
	struct ct ct = {};

	if (entry && clock_expired(entry->expires, now))
		return false;
	if (!entry) {
		origin.nat_addr = mapping->addr;
		origin.nat_port = mapping->port;
		origin.src_identity = pod ? pod->identity : 0;
		origin.companion = pod;
		ct_create(skb, packet, flow, &origin, now);
		ct_fill_handoff_new(handoff, packet, now);
		handoff->fresh = 0;
		return true;
	}
	ct_account(entry, skb);
	if (ct_advance(entry, packet, CT_RX, now) && pod)
		ct_touch_companion(flow, entry->src_identity, now);
	ct.key = *flow;
	ct.entry = entry;
	ct_fill_handoff(&ct, CT_REPLY, false, now);
	*handoff = ct.handoff;
	/* the halves follow: the pod's next packet tells whether it says otherwise */
	if (entry->nat_class != handoff->class)
		entry->nat_class = handoff->class;
	return true;
}

/* Beside enum verdict: the packet answers no masqueraded flow that lives. */
#define INGRESS_NO_REPLY VERDICT_COUNT

/* An answer to a masqueraded flow. */
static __always_inline int ingress_reply(struct __sk_buff *skb, const struct packet *packet,
					 __u32 now)
{
	struct nat_mapping mapping = { .addr = packet->tuple.daddr, .port = packet->tuple.dport };
	struct handoff handoff = {};
	struct endpoint *pod = NULL;
	struct nat_entry *reverse;
	struct tuple flow;

	reverse = nat_find_reverse(packet, &flow, now);
	if (!reverse)
		return INGRESS_NO_REPLY;
	if (!(reverse->flags & NAT_NEEDS_CT)) {
		pod = endpoint_lookup(&flow.saddr);
		if (!endpoint_is_pod(pod))
			return INGRESS_NO_REPLY;
	}
	if (!ingress_track(skb, packet, &flow, &mapping, reverse, pod, now, &handoff))
		return INGRESS_NO_REPLY;
	if (nat_follow(reverse, &handoff, now) && config.restore)
		nat_restore_forward(&flow, &mapping, reverse, now);
	if (rewrite(skb, packet, REWRITE_DESTINATION, &flow.saddr, flow.sport))
		return -DROP_REWRITE;
	if (pod && route_reaches(pod, packet))
		return route_deliver(skb, pod);
	CTX_STORE(skb, tc_index, TRACKED_BY_NETDEV);
	return VERDICT_PASS;
}

/* To a pod's own address: routed, not translated. */
static __always_inline int ingress_to_pod(struct __sk_buff *skb, const struct packet *packet,
					  struct endpoint *pod, __u32 now)
{
	int drop;

	if (endpoint_lookup(&packet->tuple.saddr))
		return -DROP_SPOOFED_SOURCE;
	if (packet_is_untracked(packet) || !route_reaches(pod, packet))
		return VERDICT_PASS;
	drop = endpoint_track_receive(skb, packet, 0, now);
	return drop ? drop : route_deliver(skb, pod);
}

/* Through the node: never in the name of a pod, which would get it masqueraded. */
static __always_inline int ingress_transit(const struct packet *packet)
{
	return endpoint_is_pod(endpoint_lookup(&packet->tuple.saddr)) ? -DROP_SPOOFED_SOURCE :
									VERDICT_PASS;
}

static __always_inline int netdev_ingress(struct __sk_buff *skb, const struct packet *packet,
					  __u32 now)
{
	struct endpoint *to;

	if (ip_addr_is_link_scoped(&packet->tuple.daddr) ||
	    ip_addr_is_link_scoped(&packet->tuple.saddr))
		return VERDICT_PASS;
	if (packet_has_ports(packet) || packet->l4 == L4_ECHO_REPLY) {
		struct device *device = device_lookup(skb->ifindex);
		int result;

		if (device && nat_range_contains(device, packet, packet->tuple.dport)) {
			result = ingress_reply(skb, packet, now);
			if (result != INGRESS_NO_REPLY)
				return result;
		}
	}
	to = endpoint_lookup(&packet->tuple.daddr);
	if (!to)
		return ingress_transit(packet);
	return endpoint_is_pod(to) ? ingress_to_pod(skb, packet, to, now) : VERDICT_PASS;
}
