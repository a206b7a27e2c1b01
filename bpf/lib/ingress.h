/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* from_netdev: answers to translated flows, and what the world opens. */
#pragma once

#include "dsr.h"
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
		origin.rev_nat_index = reverse->rev_nat_index;
		origin.src_identity = pod ? pod->identity : 0;
		origin.companion = !!pod;
		if (reverse->flags & NAT_NODE_PORT) {
			origin.flags = CT_NODE_PORT;
			origin.src_identity = IDENTITY_WORLD;
		}
		ct_create(skb, packet, flow, &origin, now);
		ct_fill_handoff_new(handoff, packet, now);
		handoff->fresh = 0;
		handoff->rev_nat_index = reverse->rev_nat_index;
		return true;
	}
	ct_account(entry, skb);
	if (ct_advance(entry, packet, CT_RX, now) && pod)
		ct_touch_companion(flow, entry->src_identity, entry->rev_nat_index, now);
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

/* What remains of an answer whose destination has been translated: a service's client
 * gets it from the frontend, through the stack too. */
static __always_inline int ingress_pass_on(struct __sk_buff *skb, struct packet *packet,
					   struct endpoint *pod,
					   const struct service_source *source)
{
	int result = VERDICT_PASS;

	if (pod && route_reaches(pod, packet)) {
		if (source->addr &&
		    rewrite(skb, packet, REWRITE_SOURCE, source->addr, source->port))
			return -DROP_REWRITE;
		return route_deliver(skb, pod);
	}
	if (!pod && source->addr)
		result = service_answer(skb, packet, source);
	if (result == VERDICT_PASS)
		CTX_STORE(skb, tc_index,
			  !source->addr ? TRACKED_BY_NETDEV :
			  pod           ? TRACKED_SERVICE :
					  TRACKED_ANSWER);
	return result;
}

/* An answer to a flow that left as the node. */
static __always_inline int ingress_reply(struct __sk_buff *skb, struct packet *packet, __u32 now)
{
	struct nat_mapping mapping = { .addr = packet->tuple.daddr, .port = packet->tuple.dport };
	struct service_source source = {};
	struct handoff handoff = {};
	struct endpoint *pod = NULL;
	struct nat_entry *reverse;
	struct tuple flow;

	reverse = nat_find_reverse(packet, &flow, now);
	if (!reverse)
		return INGRESS_NO_REPLY;
	if (!(reverse->flags & (NAT_NEEDS_CT | NAT_NODE_PORT))) {
		pod = endpoint_lookup(&flow.saddr);
		if (!endpoint_is_pod(pod))
			return INGRESS_NO_REPLY;
	}
	if (!ingress_track(skb, packet, &flow, &mapping, reverse, pod, now, &handoff))
		return INGRESS_NO_REPLY;
	if (nat_follow(reverse, &handoff, now) && config.restore)
		nat_restore_forward(&flow, &mapping, reverse, now);
	if (handoff.rev_nat_index && !service_source_of(handoff.rev_nat_index, &source))
		return -DROP_SERVICE_STATE_LOST;
	if (rewrite(skb, packet, REWRITE_DESTINATION, &flow.saddr, flow.sport))
		return -DROP_REWRITE;
	packet->tuple.daddr = flow.saddr;
	packet->tuple.dport = flow.sport;
	return ingress_pass_on(skb, packet, pod, &source);
}

/* To a pod's own address: routed, not translated. */
static __always_inline int ingress_to_pod(struct __sk_buff *skb, const struct packet *packet,
					  struct endpoint *pod, struct ct *ct, __u32 now)
{
	int drop;

	if (endpoint_lookup(&packet->tuple.saddr))
		return -DROP_SPOOFED_SOURCE;
	if (packet_is_untracked(packet) || !route_reaches(pod, packet))
		return VERDICT_PASS;
	ct_init(ct, true);
	drop = endpoint_track_receive(skb, packet, ct, 0, now);
	return drop ? drop : route_deliver(skb, pod);
}

/* Through the node: never in the name of a pod, which would get it masqueraded. */
static __always_inline int ingress_transit(const struct packet *packet)
{
	return endpoint_is_pod(endpoint_lookup(&packet->tuple.saddr)) ? -DROP_SPOOFED_SOURCE :
									VERDICT_PASS;
}

/* A client's packet to a service, whose backend is a pod of this node. */
static __noinline int ingress_to_backend(struct __sk_buff *skb, const struct packet *packet,
					 struct endpoint *pod, struct ct *ct, __u32 now)
{
	int drop;

	ct->companion = true;
	ct_track(skb, packet, CT_RX, now, ct);
	ct_stamp(ct);
	/* of TCP that nobody knew nothing has left */
	if (ct->handoff.result == CT_NEW && packet->l4 != L4_TCP)
		service_end_own(packet, now);
	drop = endpoint_record(skb, packet, ct, IDENTITY_WORLD, now);
	if (drop)
		return drop;
	if (!ct->entry)
		ct->entry = ct_lookup(&ct->key);
	if (ct->entry)
		service_follow(&ct->key, ct->entry, now);
	if (route_reaches(pod, packet))
		return route_deliver(skb, pod);
	CTX_STORE(skb, tc_index, TRACKED_BY_NETDEV);
	return VERDICT_PASS;
}

/* The CT stage of a client's packet to a service, whose backend is on another node. */
static __noinline int ingress_track_client(struct __sk_buff *skb, const struct packet *packet,
					   struct ct *ct, __u32 now)
{
	ct->unproven = true;
	ct_track(skb, packet, CT_TX, now, ct);
	ct_stamp(ct);
	return endpoint_record(skb, packet, ct, IDENTITY_WORLD, now);
}

/* It leaves as this node, whose answer the backend's is then. */
static __noinline int ingress_to_node(struct __sk_buff *skb, const struct packet *packet,
				      struct ct *ct)
{
	struct route route = {};
	int drop;

	if (!endpoint_route(skb, packet, ct, &route)) {
		CTX_STORE(skb, tc_index, TRACKED_SERVICE);
		return VERDICT_PASS;
	}
	drop = endpoint_leave(skb, packet, ct, device_lookup(route.ifindex), IDENTITY_WORLD);
	return drop ? drop : route_forward(skb, &route);
}

/* Does the network send in the name of somebody here? */
static __noinline bool ingress_is_spoofed(const struct service_ask *ask)
{
	struct ip_addr source = ask->packet->tuple.saddr;

	return endpoint_lookup(&source);
}

/* Why the network may not use a service, or 0. */
static __always_inline int ingress_refuses(const struct service_ask *ask)
{
	if (ask->service->flags & SERVICE_ANY_PORT)
		return service_refuse(ask, ask->packet->l4 == L4_FRAGMENT ?
						   DROP_FRAGMENT_UNSUPPORTED :
						   DROP_SERVICE_UNKNOWN_PORT);
	if (!(ask->service->flags & SERVICE_FROM_OUTSIDE))
		return service_refuse(ask, DROP_SERVICE_NOT_EXTERNAL);
	if (!service_admits(ask))
		return service_refuse(ask, DROP_SERVICE_SOURCE_RANGE);
	return ingress_is_spoofed(ask) ? -DROP_SPOOFED_SOURCE : 0;
}

/* Beside enum verdict: no service has this packet; its destination is a backend now. */
#define INGRESS_NO_SERVICE VERDICT_COUNT
#define INGRESS_TO_BACKEND (VERDICT_COUNT + 1)
#define INGRESS_TO_TUNNEL  (VERDICT_COUNT + 2)

/* Finds the network's packet to a service its backend. 0 or a drop reason, or NO_SERVICE. */
__noinline int ingress_serve(struct __sk_buff *skb, const struct packet *packet, bool node,
			     __u32 now, struct service_hit *hit)
{
	struct service_ask ask = { .packet = packet, .now = now };
	int drop;

	if (!packet || !hit || !service_asked_outside(&ask, node))
		return INGRESS_NO_SERVICE;
	drop = ingress_refuses(&ask);
	return drop ? drop : service_connect(skb, &ask, hit);
}

/* A packet to an address that is no pod's: the node's if `node`. With a service, ct->key is
 * whom the client asked. */
static __noinline int ingress_ask(struct __sk_buff *skb, struct packet *packet, bool node,
				  struct ct *ct, __u32 now)
{
	struct service_hit hit = {};
	int drop = ingress_serve(skb, packet, node, now, &hit);

	if (drop)
		return drop;
	ct->key = packet->tuple;
	drop = service_translate(skb, packet, &hit);
	if (drop)
		return drop;
	if ((hit.flags & SERVICE_DSR) && !endpoint_is_pod(endpoint_lookup(&hit.backend)))
		return INGRESS_TO_TUNNEL;
	ct_init(ct, false);
	ct->opener = true;
	ct->flags = CT_NODE_PORT;
	ct->rev_nat_index = hit.rev_nat_index;
	return INGRESS_TO_BACKEND;
}

/* To the node, or through it, unless a service has it. */
static __always_inline int ingress_to_service(struct __sk_buff *skb, struct packet *packet,
					      struct endpoint *to, struct ct *ct, __u32 now)
{
	int result = ingress_ask(skb, packet, to, ct, now);
	struct endpoint *pod;

	if (result == INGRESS_NO_SERVICE)
		return to ? VERDICT_PASS : ingress_transit(packet);
	if (result == INGRESS_TO_TUNNEL)
		result = dsr_forward(skb, packet, &ct->key);
	if (result == -DROP_SERVICE_NO_BACKEND || result == -DROP_TOO_BIG)
		return icmp_reply_drop(skb, packet, -result, now);
	if (result != INGRESS_TO_BACKEND)
		return result;
	pod = endpoint_lookup(&packet->tuple.daddr);
	if (endpoint_is_pod(pod))
		return ingress_to_backend(skb, packet, pod, ct, now);
	result = ingress_track_client(skb, packet, ct, now);
	return result ? result : ingress_to_node(skb, packet, ct);
}

static __always_inline int netdev_ingress(struct __sk_buff *skb, struct packet *packet, __u32 now)
{
	struct endpoint *to;
	struct ct ct;
	int result;

	if (ip_addr_is_link_scoped(&packet->tuple.daddr) ||
	    ip_addr_is_link_scoped(&packet->tuple.saddr))
		return VERDICT_PASS;
	if (packet_has_ports(packet) || packet->l4 == L4_ECHO_REPLY) {
		struct device *device = device_lookup(skb->ifindex);

		if (device && nat_range_contains(device, packet, packet->tuple.dport)) {
			result = ingress_reply(skb, packet, now);
			if (result != INGRESS_NO_REPLY)
				return result;
		}
	}
	to = endpoint_lookup(&packet->tuple.daddr);
	return endpoint_is_pod(to) ? ingress_to_pod(skb, packet, to, &ct, now) :
				     ingress_to_service(skb, packet, to, &ct, now);
}
