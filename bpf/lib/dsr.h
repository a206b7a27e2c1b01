/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Direct server return: a client's packet goes through the tunnel to its backend's node, and the
 * answer goes from there to the client, as the frontend.
 *
 * The node in the middle keeps nothing but the client's SVC entry. Every packet says which
 * frontend it was for, so that the backend's node can lose everything, too.
 */
#pragma once

#include "service.h"
#include "service_answer.h"
#include "tunnel.h"

/* A packet that no segment of fits its way becomes again what the client sent. */
static __noinline int dsr_too_big(struct __sk_buff *skb, struct packet *packet,
				  const struct tuple *asked, __u32 mtu)
{
	if (rewrite(skb, packet, REWRITE_DESTINATION, &asked->daddr, asked->dport))
		return -DROP_REWRITE;
	packet->tuple = *asked;
	packet->mtu = mtu - GENEVE_OVERHEAD;
	return -DROP_TOO_BIG;
}

/* The middle: a packet whose destination is its backend already, to that one's node; `asked` is
 * what the client wrote. Of a super-packet of TCP smaller segments are made where its own do
 * not fit. */
static __noinline int dsr_forward(struct __sk_buff *skb, struct packet *packet,
				  const struct tuple *asked)
{
	struct geneve_ends ends = {
		.remote = tunnel_node(&packet->tuple.daddr),
		.frontend = asked->daddr,
		.frontend_port = asked->dport,
	};
	struct route route = {};
	bool shorten = false;
	int result;

	if (!ends.remote)
		return -DROP_TUNNEL_NO_NODE;
	result = tunnel_route(skb, &ends, &route, packet->l3_len + GENEVE_OVERHEAD);
	if (result > 0 && packet->l4 == L4_TCP && CTX_LOAD(skb, gso_size)) {
		shorten = true;
		result = tunnel_route(skb, &ends, &route, packet->l3_len);
	}
	if (result > 0)
		return dsr_too_big(skb, packet, asked, result);
	if (!result)
		result = geneve_wrap(skb, &ends, shorten);
	if (result)
		return result;
	handoff_write_translated(skb);
	bpf_redirect_neigh(route.ifindex, &route.hop, sizeof(route.hop), 0);
	return VERDICT_FORWARD;
}

/* What a packet says of its flow's frontend counts where nothing was known, and where it
 * begins a connection: one client may have come to one backend by two frontends. */
static __always_inline void dsr_learn(struct ct_entry *in, const struct packet *packet,
				      const struct geneve_ends *ends)
{
	bool known = (in->flags & CT_FROM_TUNNEL) && in->nat_port;

	if (known && packet->l4 == L4_TCP && !tcp_opens(packet->tcp_flags))
		return;
	if (known && in->nat_port == ends->frontend_port &&
	    ip_addr_equal(&in->nat_addr, &ends->frontend))
		return;
	in->nat_addr = ends->frontend;
	in->nat_port = ends->frontend_port;
	in->rev_nat_index = 0;
	in->flags = (in->flags & ~CT_NODE_PORT) | CT_FROM_TUNNEL;
	in->looked = 0;
}

/* The backend's node: the entries of a packet's flow. 0 or a drop reason. */
static __noinline int dsr_track(struct __sk_buff *skb, const struct packet *packet,
				const struct geneve_ends *ends, __u32 now)
{
	struct ct_origin origin = {
		.nat_addr = ends->frontend,
		.nat_port = ends->frontend_port,
		.flags = CT_FROM_TUNNEL,
		.companion = true,
		.src_identity = IDENTITY_WORLD,
	};
	struct ct ct;

	ct_init(&ct, true);
	ct.opener = true;
	ct_track(skb, packet, CT_RX, now, &ct);
	if (ct.handoff.result == CT_NEW)
		service_end_own(packet, now);
	if (!ct.entry) {
		if (ct_create(skb, packet, &ct.key, &origin, now))
			return -DROP_CT_INSERT;
		ct.entry = ct_lookup(&ct.key);
		if (!ct.entry)
			return 0;
	}
	dsr_learn(ct.entry, packet, ends);
	service_follow(&ct.key, ct.entry, now);
	return 0;
}

/* What came out of the tunnel, to the pod that it names. */
static __noinline int dsr_deliver(struct __sk_buff *skb, const struct packet *packet,
				  const struct geneve_ends *ends, __u32 now)
{
	struct endpoint *to = endpoint_lookup(&packet->tuple.daddr);
	int drop;

	if ((packet->l4 != L4_TCP && packet->l4 != L4_UDP) || !ends->frontend_port)
		return -DROP_TUNNEL_MALFORMED;
	if (!endpoint_is_pod(to))
		return -DROP_TUNNEL_NO_NODE;
	if (ip_addr_is_link_scoped(&packet->tuple.saddr) || endpoint_lookup(&packet->tuple.saddr))
		return -DROP_SPOOFED_SOURCE;
	drop = dsr_track(skb, packet, ends, now);
	if (drop)
		return drop;
	if (route_reaches(to, packet))
		return route_deliver(skb, to);
	CTX_STORE(skb, tc_index, TRACKED_BY_NETDEV);
	return VERDICT_PASS;
}

/* from_netdev, of either family: a packet in a tunnel. TUNNEL_NOT_OURS, or how it ends. */
static __noinline int dsr_receive(struct __sk_buff *skb, __u32 now)
{
	struct geneve_ends ends;
	struct packet packet;
	int result = tunnel_open(skb, &packet, &ends);

	return result ? result : dsr_deliver(skb, &packet, &ends, now);
}
