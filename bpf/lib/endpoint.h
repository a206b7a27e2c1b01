/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A pod's link, from the host's side: what it sends, and what it is sent. */
#pragma once

#include "conntrack.h"
#include "icmp_reply.h"
#include "parse.h"
#include "rewrite.h"
#include "route.h"
#include "service.h"
#include "service_answer.h"

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
	struct ct_origin origin = {
		.flags = ct->flags,
		.rev_nat_index = ct->rev_nat_index,
		.companion = ct->companion,
		.src_identity = identity,
	};

	if (ct->entry)
		return 0;
	return ct_create(skb, packet, &ct->key, &origin, now) ? -DROP_CT_INSERT : 0;
}

/* The receiving side of conntrack, at to_endpoint or before a redirect past it. What
 * answers a flow to a service arrives as the service's frontend. */
static __noinline int endpoint_track_receive(struct __sk_buff *skb, const struct packet *packet,
					     struct ct *ct, __u32 identity, __u32 now)
{
	int result;

	ct_track(skb, packet, CT_RX, now, ct);
	if (ct->handoff.result == CT_NEW && !ct->entry) {
		result = service_lost_received(packet, now);
		if (result < 0)
			return result;
		if (result)
			ct_track(skb, packet, CT_RX, now, ct);
	}
	if (ct->handoff.result == CT_REPLY && ct->handoff.rev_nat_index)
		return service_untranslate(skb, packet, ct->handoff.rev_nat_index);
	/* an old entry took the connection in, and may have been another service's */
	if (ct->handoff.result == CT_NEW && ct->entry)
		ct->entry->rev_nat_index = ct->rev_nat_index;
	return endpoint_record(skb, packet, ct, identity, now);
}

/* Towards another pod of this node. Of a flow to a service both ends know it: the
 * sender's `ct` becomes the receiver's. */
static __always_inline int endpoint_to_pod(struct __sk_buff *skb, const struct packet *packet,
					   const struct endpoint *to, struct ct *ct, __u32 identity,
					   __u32 now)
{
	__u16 rev_nat_index = ct->rev_nat_index;
	int drop;

	if (!route_reaches(to, packet) || to->ifindex == skb->ifindex)
		return VERDICT_PASS;
	ct_init(ct, true);
	ct->rev_nat_index = rev_nat_index;
	drop = endpoint_track_receive(skb, packet, ct, identity, now);
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

/* Towards another machine. to_netdev records a new flow once it knows its port; where
 * there is none on the way, or the flow is a service's, it is recorded here. */
static __always_inline int endpoint_to_world(struct __sk_buff *skb, const struct packet *packet,
					     struct ct *ct, __u32 identity, __u32 now)
{
	struct route route = {};
	bool routed = endpoint_route(skb, packet, ct, &route);
	struct device *device = routed ? device_lookup(route.ifindex) : NULL;
	int drop = 0;

	if (device && !ct->entry && !ct->rev_nat_index)
		ct->handoff.deferred = 1;
	else
		drop = endpoint_record(skb, packet, ct, identity, now);
	if (drop || !routed)
		return drop ? drop : VERDICT_PASS;
	drop = endpoint_leave(skb, packet, ct, device, identity);
	return drop ? drop : route_forward(skb, &route);
}

/* May a service have this packet? Not when it is of a flow that is known to be
 * another's: one that was answered, or left as the node in this second. */
static __always_inline bool endpoint_is_open(const struct ct *ct, __u32 now)
{
	if (ct->handoff.result == CT_NEW || !ct->entry)
		return true;
	return ct->handoff.result == CT_ESTABLISHED && !ct->handoff.nat_port &&
	       (ct->entry->seen & CT_SEEN_BOTH) != CT_SEEN_BOTH && ct->entry->looked != now;
}

/* What no service has: a flow that goes on without, or begins, or an answer whose
 * entry is gone. 0 or a drop reason. */
static __noinline int endpoint_unserved(struct __sk_buff *skb, const struct packet *packet,
					struct ct *ct, __u32 now)
{
	const struct ip_addr loopback = ip_addr_loopback();
	int result;

	ct->hold = false;
	if (ct->handoff.result != CT_NEW && ct->entry) {
		ct->entry->looked = now;
		return 0;
	}
	result = service_lost_sent(packet, now);
	if (result < 0)
		return result;
	if (!result && ip_addr_equal(&packet->tuple.daddr, &loopback))
		return -DROP_SERVICE_STATE_LOST;
	if (result || ct->entry)
		ct_track(skb, packet, CT_TX, now, ct);
	return 0;
}

/* Beside 0 and drop reasons: no service has this packet. */
#define ENDPOINT_UNSERVED 1
/* Its backend is who sent it. */
#define ENDPOINT_LOOPS    2

/* Finds a pod's packet to a service its backend. 0 or a drop reason, or UNSERVED. */
__noinline int endpoint_serve(struct __sk_buff *skb, const struct packet *packet, __u32 now,
			      struct service_hit *hit)
{
	struct service_ask ask = { .packet = packet, .now = now };

	if (!packet || !hit || !service_asked_inside(&ask))
		return ENDPOINT_UNSERVED;
	if (ask.service->flags & SERVICE_ANY_PORT)
		return service_refuse(&ask, DROP_SERVICE_UNKNOWN_PORT);
	return service_connect(skb, &ask, hit);
}

/* A packet to a service goes to its backend, which it names from here on. 0 or a drop
 * reason, or one of these. */
static __noinline int endpoint_open(struct __sk_buff *skb, struct packet *packet, struct ct *ct,
				    __u32 now)
{
	struct service_hit hit = {};
	int drop = endpoint_serve(skb, packet, now, &hit);

	if (drop == -DROP_SERVICE_NO_BACKEND)
		return icmp_reply_drop(skb, packet, DROP_SERVICE_NO_BACKEND, now);
	if (!drop)
		drop = service_translate(skb, packet, &hit);
	if (drop)
		return drop;
	ct->hold = false;
	ct->opener = true;
	ct->rev_nat_index = hit.rev_nat_index;
	if (ip_addr_equal(&packet->tuple.saddr, &packet->tuple.daddr))
		return ENDPOINT_LOOPS;
	ct_track(skb, packet, CT_TX, now, ct);
	ct_stamp(ct);
	return 0;
}

/* Back over the link it came from. It never leaves it, and so takes no hop; without a
 * peer the stack turns it round. */
static __always_inline int endpoint_turn(struct __sk_buff *skb, const struct endpoint *from)
{
	__u32 ifindex = from->ifindex;

	if (!(from->flags & ENDPOINT_PEER)) {
		CTX_STORE(skb, tc_index, TRACKED_BY_NETDEV);
		return VERDICT_PASS;
	}
	handoff_scrub(skb);
	bpf_redirect_peer(ifindex, 0);
	return VERDICT_DELIVER;
}

/* A pod that is its own backend meets itself as the loopback address. */
static __noinline int endpoint_loop(struct __sk_buff *skb, struct packet *packet, struct ct *ct,
				    const struct endpoint *from, __u32 now)
{
	const struct ip_addr loopback = ip_addr_loopback();
	int drop;

	if (rewrite(skb, packet, REWRITE_SOURCE, &loopback, packet->tuple.sport))
		return -DROP_REWRITE;
	packet->tuple.saddr = loopback;
	ct->flags = CT_LB_LOOPBACK;
	ct_track(skb, packet, CT_RX, now, ct);
	ct_stamp(ct);
	drop = endpoint_record(skb, packet, ct, from->identity, now);
	return drop ? drop : endpoint_turn(skb, from);
}

/* Its answer, to itself, comes from the frontend. */
static __noinline int endpoint_loop_answer(struct __sk_buff *skb, const struct packet *packet,
					   const struct ct *ct, const struct endpoint *from)
{
	int drop = service_untranslate(skb, packet, ct->handoff.rev_nat_index);

	if (drop)
		return drop;
	if (rewrite(skb, packet, REWRITE_DESTINATION, &packet->tuple.saddr, packet->tuple.dport))
		return -DROP_REWRITE;
	return endpoint_turn(skb, from);
}

/* A pod's answer to a client elsewhere leaves as the frontend. What the stack routes
 * is left to to_netdev. */
static __noinline int endpoint_answer(struct __sk_buff *skb, struct packet *packet, struct ct *ct,
				      __u32 now)
{
	struct service_source source;

	service_follow(&ct->key, ct->entry, now);
	if (!service_source_by_entry(ct->entry, &source))
		return -DROP_SERVICE_STATE_LOST;
	return service_answer(skb, packet, &source);
}

/* from_endpoint: source check, conntrack, services, route. */
static __always_inline int endpoint_send(struct __sk_buff *skb, struct packet *packet, __u32 now)
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

	ct_init(&ct, true);
	ct.hold = true;
	ct_track(skb, packet, CT_TX, now, &ct);
	if (endpoint_is_open(&ct, now)) {
		drop = endpoint_open(skb, packet, &ct, now);
		if (drop == ENDPOINT_UNSERVED)
			drop = endpoint_unserved(skb, packet, &ct, now);
		else if (drop == ENDPOINT_LOOPS)
			return endpoint_loop(skb, packet, &ct, from, now);
		if (drop)
			return drop;
	}
	if (ct.entry && ct.handoff.result == CT_REPLY && ct.handoff.answer)
		return ct.entry->flags & CT_LB_LOOPBACK ?
			       endpoint_loop_answer(skb, packet, &ct, from) :
			       endpoint_answer(skb, packet, &ct, now);
	/* a flow that left as the node in this second was for nobody here */
	to = ct.handoff.nat_port ? NULL : endpoint_lookup(&packet->tuple.daddr);
	if (!to)
		return endpoint_to_world(skb, packet, &ct, identity, now);
	drop = endpoint_record(skb, packet, &ct, identity, now);
	if (drop)
		return drop;
	if (!endpoint_is_pod(to))
		return VERDICT_PASS;
	return endpoint_to_pod(skb, packet, to, &ct, identity, now);
}

/* What conntrack has seen at another hook, of a flow to a service. */
__noinline int endpoint_receive_answer(struct __sk_buff *skb, const struct packet *packet,
				       __u32 now)
{
	struct ct_entry *out;
	struct tuple key;

	if (!packet)
		return -DROP_SERVICE_STATE_LOST;
	out = service_answered(packet, KIND_OUT, &key, now);
	return out ? service_untranslate(skb, packet, out->rev_nat_index) :
		     -DROP_SERVICE_STATE_LOST;
}

/* to_endpoint: conntrack, for what came through the stack. */
static __always_inline int endpoint_receive(struct __sk_buff *skb, const struct packet *packet,
					    __u32 now)
{
	__u32 tracked = CTX_LOAD(skb, ingress_ifindex) ? CTX_LOAD(skb, tc_index) : 0;
	struct ct ct;
	int drop = 0;

	if (tracked == TRACKED_SERVICE) {
		drop = endpoint_receive_answer(skb, packet, now);
	} else if (tracked != TRACKED_BY_NETDEV && !packet_is_untracked(packet)) {
		struct endpoint *from = endpoint_lookup(&packet->tuple.saddr);

		ct_init(&ct, true);
		drop = endpoint_track_receive(skb, packet, &ct, from ? from->identity : 0, now);
		if (!drop && ct.handoff.result == CT_NEW && endpoint_is_pod(from))
			service_tell_backend(packet, now);
	}
	handoff_scrub(skb);
	return drop;
}
