/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* to_netdev: who leaves as whom. Fails closed: what should be masqueraded and
 * cannot be is dropped. */
#pragma once

#include "half_lost.h"
#include "parse.h"
#include "rewrite.h"
#include "route.h"
#include "service_answer.h"
#include "snat.h"

/* Is this destination one that a pod's packets leave for as the node? An address that
 * `endpoints` knows is one, too, once a packet for it leaves: nobody has it here. */
static __always_inline bool masquerade_due(const struct packet *packet)
{
	return config.masquerade && !(prefix_flags(&packet->tuple.daddr) & PREFIX_NO_MASQUERADE);
}

/* Why a pod's packet cannot be masqueraded, or 0. */
static __always_inline int masquerade_refuses(const struct packet *packet,
					      const struct device *device)
{
	switch (packet->l4) {
	case L4_FRAGMENT:
		return -DROP_FRAGMENT_UNSUPPORTED;
	case L4_ICMP_ERROR:
	case L4_ICMP_OTHER:
	case L4_ECHO_REPLY:
	case L4_NEIGHBOUR:
		return -DROP_ICMP_UNSUPPORTED;
	case L4_OTHER:
		return -DROP_PROTOCOL_UNSUPPORTED;
	default:
		return device && (device->flags & DEVICE_HAS_ADDRESS) ? 0 : -DROP_NO_EGRESS_ADDRESS;
	}
}

/* Records the flow that from_endpoint left to this hook. */
static __noinline int egress_record(struct __sk_buff *skb, const struct packet *packet,
				    const struct handoff *handoff,
				    const struct nat_mapping *mapping, __u32 now)
{
	struct ct_origin origin = {
		.nat_addr = mapping->addr,
		.nat_port = mapping->port,
		.src_identity = handoff->identity,
		.companion = handoff->pod,
	};

	return ct_create(skb, packet, &packet->tuple, &origin, now) ? -DROP_CT_INSERT : 0;
}

/* A flow that leaves as it is has no port any more, whatever it once had. */
static __noinline int egress_forget(const struct packet *packet)
{
	const struct nat_mapping none = {};

	nat_tell_conntrack(ct_lookup(&packet->tuple), &none);
	return VERDICT_PASS;
}

/* Translates a flow that the pod, or the node itself, opened. */
static __always_inline int egress_translate(struct __sk_buff *skb, const struct packet *packet,
					    const struct device *device,
					    const struct handoff *handoff,
					    struct nat_entry *forward, __u32 now)
{
	struct nat_mapping mapping = {};
	int drop = nat_outgoing(skb, packet, device, handoff, forward, &mapping, now);

	if (!drop && handoff->deferred)
		drop = egress_record(skb, packet, handoff, &mapping, now);
	if (drop)
		return drop;
	return rewrite(skb, packet, REWRITE_SOURCE, &mapping.addr, mapping.port);
}

/* A pod's packet: the answer to a flow opened towards it leaves as it is, its own
 * flow as the node, where that is due. A client's, to a service, always does. */
static __always_inline int egress_pod(struct __sk_buff *skb, const struct packet *packet,
				      const struct device *device, const struct handoff *handoff,
				      __u32 now)
{
	bool carried = packet_is_carried(packet);
	struct nat_mapping none = {};
	struct nat_entry *forward;
	int drop;

	if (handoff->result == CT_REPLY)
		return VERDICT_PASS;
	if (carried && handoff->nat_port && device)
		return rewrite(skb, packet, REWRITE_SOURCE, &device->addr, handoff->nat_port);
	forward = carried ? table_lookup(TABLE_SNAT, &packet->tuple) : NULL;
	if (forward && clock_expired(forward->expires, now))
		forward = NULL;
	if (!forward && !handoff->node_port && !masquerade_due(packet)) {
		if (handoff->deferred)
			return egress_record(skb, packet, handoff, &none, now);
		return handoff->result == CT_NEW || handoff->unmapped ? VERDICT_PASS :
									egress_forget(packet);
	}
	drop = masquerade_refuses(packet, device);
	if (drop)
		return drop;
	return egress_translate(skb, packet, device, handoff, forward, now);
}

/* Does somebody's reverse half hold the port that the node's packet brings? */
static __noinline bool egress_port_is_held(const struct packet *packet, __u32 now)
{
	struct nat_entry *reverse;
	struct tuple answer;

	tuple_reverse(&answer, &packet->tuple, KIND_IN);
	reverse = table_lookup(TABLE_SNAT, &answer);
	return reverse && !clock_expired(reverse->expires, now);
}

/* The CT stage of a flow of the node itself. */
static __noinline int egress_track_node(struct __sk_buff *skb, const struct packet *packet,
					__u32 now, struct handoff *handoff)
{
	struct ct ct;

	ct_init(&ct, false);
	ct_track(skb, packet, CT_TX, now, &ct);
	*handoff = ct.handoff;
	handoff->pod = 0;
	handoff->identity = 0;
	handoff->deferred = !ct.entry;
	return 0;
}

/* The node's own packet from its masquerade address. It keeps its port and costs
 * no entry, unless a pod holds that port towards the same peer. */
static __always_inline int egress_node(struct __sk_buff *skb, const struct packet *packet,
				       const struct device *device, __u32 now)
{
	__u32 zero = 0;
	struct family_state *state = bpf_map_lookup_elem(&family_state, &zero);
	struct nat_entry *forward = NULL;
	struct handoff handoff = {};

	if (config.restore && half_lost(skb, packet, device)) {
		if (state)
			event_send_rarely(EVENT_HALF_LOST, &state->loss_told, now);
		return -DROP_HALF_LOST;
	}
	if (!state || packet->l4 == L4_SCTP || packet->l4 == L4_ECHO_REPLY ||
	    !nat_range_contains(device, packet, packet->tuple.sport))
		return VERDICT_PASS;
	if (state->node_translated)
		forward = table_lookup(TABLE_SNAT, &packet->tuple);
	if (!forward || clock_expired(forward->expires, now)) {
		forward = NULL;
		if (!egress_port_is_held(packet, now))
			return VERDICT_PASS;
		if (!state->node_translated)
			WRITE_ONCE(state->node_translated, 1);
	}
	egress_track_node(skb, packet, now, &handoff);
	return egress_translate(skb, packet, device, &handoff, forward, now);
}

/* What conntrack knows of a packet that came through the stack, where an entry has been
 * made for it already, unless it was lost since. `opener`: it is no answer. */
static __noinline int egress_ask(const struct packet *packet, const struct device *device,
				 bool opener, __u32 now, struct handoff *handoff)
{
	struct ct ct;

	ct_init(&ct, true);
	ct.opener = opener;
	if (ct_find(&ct, packet, CT_TX, now)) {
		ct_fill_handoff(&ct, ct.handoff.result, false, now);
		*handoff = ct.handoff;
		if (!device || !ip_addr_equal(&ct.entry->nat_addr, &device->addr))
			handoff->nat_port = 0;
		handoff->fresh = handoff->class == NAT_CLASS_SYN && tcp_opens(packet->tcp_flags);
		return 0;
	}
	ct_fill_handoff_new(handoff, packet, now);
	handoff->deferred = !ct.entry;
	return 0;
}

/* The answer of a service's backend leaves as the frontend, which the flow's entry of
 * this kind knows. */
__noinline int egress_answer(struct __sk_buff *skb, const struct packet *packet, enum kind kind,
			     __u32 now)
{
	struct service_source source;
	struct ct_entry *entry;
	struct tuple key;

	if (!packet)
		return -DROP_SERVICE_STATE_LOST;
	entry = service_answered(packet, kind, &key, now);
	if (!entry || !service_source_by_entry(entry, &source))
		return -DROP_SERVICE_STATE_LOST;
	return service_write_source(skb, packet, &source, skb->ifindex);
}

/* Beside enum verdict: the packet's flow is known now. */
#define EGRESS_KNOWN VERDICT_COUNT

/* A packet that no ingress program of ours vouches for: a pod's, or one of a service's
 * flow, for which from_netdev has done what it could. */
static __noinline int egress_learn(struct __sk_buff *skb, const struct packet *packet,
				   const struct device *device, struct handoff *handoff, __u32 now)
{
	__u32 tracked = CTX_LOAD(skb, ingress_ifindex) ? CTX_LOAD(skb, tc_index) : 0;
	bool service = tracked >= TRACKED_SERVICE;
	struct endpoint *from = service ? NULL : endpoint_lookup(&packet->tuple.saddr);
	__u32 identity = IDENTITY_WORLD;
	enum kind kind = KIND_OUT;

	if (!service && !endpoint_is_pod(from))
		return prefix_flags(&packet->tuple.saddr) & PREFIX_LOCAL_PODS ?
			       -DROP_UNKNOWN_SOURCE :
			       VERDICT_PASS;
	if (from) {
		identity = from->identity;
		kind = KIND_IN;
	}
	if (tracked != TRACKED_ANSWER) {
		egress_ask(packet, device, service, now, handoff);
		if (service && !handoff->node_port)
			return -DROP_SERVICE_STATE_LOST;
	}
	if (tracked == TRACKED_ANSWER || (handoff->result == CT_REPLY && handoff->answer))
		return egress_answer(skb, packet, kind, now);
	handoff->pod = !service;
	handoff->identity = identity;
	return EGRESS_KNOWN;
}

static __always_inline int netdev_egress(struct __sk_buff *skb, const struct packet *packet,
					 __u32 now)
{
	struct device *device = device_lookup(skb->ifindex);
	struct handoff handoff = {};
	int result;

	if (!handoff_take(skb, &handoff)) {
		if (ip_addr_is_link_scoped(&packet->tuple.saddr))
			return VERDICT_PASS;
		if (!CTX_LOAD(skb, ingress_ifindex) && device &&
		    (device->flags & DEVICE_HAS_ADDRESS) &&
		    ip_addr_equal(&packet->tuple.saddr, &device->addr))
			return egress_node(skb, packet, device, now);
		result = egress_learn(skb, packet, device, &handoff, now);
		if (result != EGRESS_KNOWN)
			return result;
	}
	return egress_pod(skb, packet, device, &handoff, now);
}
