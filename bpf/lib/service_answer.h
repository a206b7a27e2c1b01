/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a backend answers leaves, or arrives, as its service's frontend.
 *
 * Two entries know a flow to a backend of this node, the client's OUT and the
 * backend's IN: each is what brings the other back. An answer that none of them
 * knows is dropped when it is TCP: its receiver's RST would end the connection,
 * which the client's next packet repairs.
 */
#pragma once

#include "conntrack.h"
#include "rewrite.h"
#include "route.h"
#include "tunnel.h"

/* What an answer comes from. */
struct service_source {
	const struct ip_addr *addr;
	__be16 port;
	__u8 tunnel; /* 0xff: its flow's packets come through one; else 0 */
};

/* False: the frontend is gone. */
static __always_inline bool service_source_of(__u16 rev_nat_index, struct service_source *source)
{
	__u32 index = rev_nat_index;
	const struct rev_nat *frontend = bpf_map_lookup_elem(&rev_nat, &index);

	if (!frontend)
		return false;
	source->addr = &frontend->addr;
	source->port = frontend->port;
	source->tunnel = 0;
	return true;
}

/* Of a flow that came through a tunnel the entry itself knows it. */
static __always_inline bool service_source_by_entry(const struct ct_entry *entry,
						    struct service_source *source)
{
	if (!(entry->flags & (CT_FROM_TUNNEL | CT_DSR_INTERNAL)))
		return service_source_of(entry->rev_nat_index, source);
	source->addr = &entry->nat_addr;
	source->port = entry->nat_port;
	source->tunnel = 0xff;
	return source->port;
}

/* Writes what an answer comes from. It leaves by `ifindex`, and promises to take what
 * the tunnel can bring. 0 or a drop reason. */
static __always_inline int service_write_source(struct __sk_buff *skb, const struct packet *packet,
						const struct service_source *source, __u32 ifindex)
{
	tunnel_promise(skb, source->tunnel & packet->tcp_flags, packet->l4_off, packet->l4_len,
		       ifindex);
	return rewrite(skb, packet, REWRITE_SOURCE, source->addr, source->port);
}

/* 0 or a drop reason. */
__noinline int service_untranslate(struct __sk_buff *skb, const struct packet *packet,
				   __u16 rev_nat_index)
{
	struct service_source source;

	if (!packet || !service_source_of(rev_nat_index, &source))
		return -DROP_SERVICE_STATE_LOST;
	return rewrite(skb, packet, REWRITE_SOURCE, source.addr, source.port);
}

/* Sends an answer on its way out as what `source` says. PASS: nothing has been
 * changed, only the stack can route it, and to_netdev will translate it. The stack
 * would take an address of the node that comes in from elsewhere for a martian. */
static __noinline int service_answer(struct __sk_buff *skb, struct packet *packet,
				     const struct service_source *source)
{
	struct ip_addr addr = packet->tuple.saddr;
	__be16 port = packet->tuple.sport;
	struct route route = {};
	bool routed;

	packet->tuple.saddr = *source->addr;
	packet->tuple.sport = source->port;
	routed = route_lookup(skb, packet, &route);
	packet->tuple.saddr = addr;
	packet->tuple.sport = port;
	if (!routed)
		return VERDICT_PASS;
	if (service_write_source(skb, packet, source, route.ifindex))
		return -DROP_REWRITE;
	handoff_write_translated(skb);
	return route_forward(skb, &route);
}

/* Both entries of a flow say who answers it. */
static __always_inline __u16 service_mirror_flags(__u16 flags)
{
	__u16 mirrored = flags & (CT_NODE_PORT | CT_SEEN_NON_SYN);

	mirrored |= flags & CT_FROM_TUNNEL ? CT_DSR_INTERNAL : 0;
	mirrored |= flags & CT_DSR_INTERNAL ? CT_FROM_TUNNEL : 0;
	mirrored |= flags & CT_RX_CLOSING ? CT_TX_CLOSING : 0;
	mirrored |= flags & CT_TX_CLOSING ? CT_RX_CLOSING : 0;
	return mirrored;
}

/* What one of a flow's two entries says, from the other side. */
static __always_inline void service_mirror(struct ct_entry *to, const struct ct_entry *from)
{
	to->flags = service_mirror_flags(from->flags);
	to->seen = (from->seen & CT_RX_RESET) | (from->seen & CT_SEEN_TX ? CT_SEEN_RX : 0) |
		   (from->seen & CT_SEEN_RX ? CT_SEEN_TX : 0);
	to->tx_flags_seen = from->rx_flags_seen;
	to->rx_flags_seen = from->tx_flags_seen;
	to->last_tx_report = from->last_rx_report;
	to->last_rx_report = from->last_tx_report;
	to->rev_nat_index = from->rev_nat_index;
	to->src_identity = from->src_identity;
	if (from->flags & (CT_FROM_TUNNEL | CT_DSR_INTERNAL)) {
		to->nat_addr = from->nat_addr;
		to->nat_port = from->nat_port;
	}
	WRITE_ONCE(to->expires, from->expires);
}

/* Makes a flow's entry of this kind say what its other one does. True: it is there. */
__noinline bool service_copy(const struct tuple *flow, enum kind kind, const struct ct_entry *from,
			     __u32 now)
{
	struct tuple key = {};
	struct ct_entry *to;
	__u32 expires;

	if (!flow || !from)
		return false;
	key = *flow;
	key.kind = kind;
	to = ct_lookup(&key);
	if (!to) {
		if (ct_insert(&key, &ct_blank))
			return false;
		to = ct_lookup(&key);
		if (!to)
			return false;
	} else {
		expires = READ_ONCE(to->expires);
		if (clock_expired(expires, now) &&
		    (!expires || __sync_val_compare_and_swap(&to->expires, expires, 0) != expires))
			return false;
	}
	service_mirror(to, from);
	return true;
}

/* Lets the client's OUT follow the backend's IN: once a second, or when its class
 * changes. Where OUT is gone it is made again. */
static __always_inline void service_follow(const struct tuple *flow, struct ct_entry *in, __u32 now)
{
	enum nat_class class = ct_class(flow, in);

	if (in->looked == now && in->nat_class == class)
		return;
	in->looked = now;
	in->nat_class = class;
	service_copy(flow, KIND_OUT, in, now);
}

static __always_inline void service_expire(__u32 *expires, __u32 now)
{
	__u32 found = READ_ONCE(*expires);

	if (!clock_expired(found, now))
		__sync_val_compare_and_swap(expires, found, now);
}

/* Ends the flow that the pod began when nobody knew that it answers this one: what is left
 * of it would have the pod's packets leave as the node. */
__noinline int service_end_own(const struct packet *packet, __u32 now)
{
	struct nat_entry *forward;
	struct ct_entry *own;
	struct tuple key;

	if (!packet)
		return 0;
	tuple_reverse(&key, &packet->tuple, KIND_OUT);
	own = ct_lookup(&key);
	if (!own || (own->seen & CT_SEEN_BOTH) != CT_SEEN_TX)
		return 0;
	service_expire(&own->expires, now);
	forward = table_lookup(TABLE_SNAT, &key);
	if (forward)
		service_expire(&forward->expires, now);
	return 0;
}

/* The stack brought a client's first packet from a pod of this node to its backend's link:
 * of a service's flow the backend's IN says so like the client's OUT, which it may have to
 * bring back. */
__noinline int service_tell_backend(const struct packet *packet, __u32 now)
{
	struct ct_entry *out, *in;
	struct tuple key;

	if (!packet)
		return 0;
	key = packet->tuple;
	out = ct_lookup(&key);
	if (!out || clock_expired(out->expires, now) || !out->rev_nat_index)
		return 0;
	key.kind = KIND_IN;
	in = ct_lookup(&key);
	if (in)
		in->rev_nat_index = out->rev_nat_index;
	return 0;
}

static __always_inline bool service_is_backend(const struct packet *packet)
{
	struct backend_address key = {
		.addr = packet->tuple.saddr,
		.port = packet->tuple.sport,
		.proto = packet->tuple.proto,
	};

	return packet->l4 <= L4_UDP && !tcp_opens(packet->tcp_flags) &&
	       bpf_map_lookup_elem(&backend_addresses, &key);
}

/* A live entry of the flow that a packet answers, or NULL. */
static __always_inline struct ct_entry *
service_answered(const struct packet *packet, enum kind kind, struct tuple *key, __u32 now)
{
	struct ct_entry *entry;

	tuple_reverse(key, &packet->tuple, kind);
	entry = ct_lookup(key);
	return entry && !clock_expired(entry->expires, now) ? entry : NULL;
}

/* A packet that a pod sends, and that conntrack does not know: does it answer a flow
 * whose IN is gone? 0: no. 1: its IN is there again. */
__noinline int service_lost_sent(const struct packet *packet, __u32 now)
{
	struct nat_entry *forward;
	struct ct_entry *out;
	struct tuple key;

	if (!packet || !service_is_backend(packet))
		return 0;
	out = service_answered(packet, KIND_OUT, &key, now);
	if (out && service_copy(&key, KIND_IN, out, now))
		return 1;
	if (packet->l4 != L4_TCP)
		return 0;
	key = packet->tuple;
	forward = table_lookup(TABLE_SNAT, &key);
	return forward && !clock_expired(forward->expires, now) ? 0 : -DROP_SERVICE_STATE_LOST;
}

/* The same of a packet that is to reach a pod, whose OUT is gone. A flow that is no
 * service's is delivered as it is. */
__noinline int service_lost_received(const struct packet *packet, __u32 now)
{
	struct ct_entry *in;
	struct tuple key;

	if (!packet || !service_is_backend(packet))
		return 0;
	in = service_answered(packet, KIND_IN, &key, now);
	if (in && !in->rev_nat_index)
		return 0;
	if (in && service_copy(&key, KIND_OUT, in, now))
		return 1;
	return packet->l4 == L4_TCP ? -DROP_SERVICE_STATE_LOST : 0;
}
