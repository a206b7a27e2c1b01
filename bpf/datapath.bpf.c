// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The four hooks of one address family. docs/flows.md says, row by row, what
 * each of them does with which packet.
 */
#include "lib/egress.h"
#include "lib/endpoint.h"
#include "lib/ingress.h"
#include "lib/verdict.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What a pod sends: ingress of the host side of its link. */
SEC("tc")
int from_endpoint(struct __sk_buff *skb)
{
	struct packet packet;
	int result;

	if (!packet_is_ours(skb) || packet_is_tagged(skb))
		return FINISH_NEXT;
	handoff_clear(skb);
	result = packet_untag(skb);
	if (!result)
		result = packet_parse(skb, &packet);
	if (!result)
		result = endpoint_send(skb, &packet, clock_now());
	return finish(HOOK_FROM_ENDPOINT, result);
}

/* What reaches a pod through the stack: egress of the same. */
SEC("tc")
int to_endpoint(struct __sk_buff *skb)
{
	struct packet packet;
	int result;

	if (!packet_is_ours(skb))
		return FINISH_NEXT;
	result = packet_parse(skb, &packet);
	if (!result)
		result = endpoint_receive(skb, &packet, clock_now());
	return finish(HOOK_TO_ENDPOINT, result);
}

/* What is in no tunnel. A call of its own: the tunnel's need the stack. */
static __noinline int from_netdev_plain(struct __sk_buff *skb)
{
	struct packet packet;
	int result;

	handoff_clear(skb);
	result = packet_untag(skb);
	if (!result)
		result = packet_parse(skb, &packet);
	if (!result)
		result = netdev_ingress(skb, &packet, clock_now());
	return finish(HOOK_FROM_NETDEV, result);
}

/* What the network sends: ingress of a north-south device. */
SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	if (packet_is_tagged(skb))
		return FINISH_NEXT;
	if (unlikely(geneve_is_likely(skb))) {
		int result = dsr_receive(skb, clock_now());

		if (result != TUNNEL_NOT_OURS)
			return finish(HOOK_FROM_NETDEV, result);
	}
	return packet_is_ours(skb) ? from_netdev_plain(skb) : FINISH_NEXT;
}

/* What leaves the node: egress of the same. */
SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	struct packet packet;
	int result;

	if (!packet_is_ours(skb))
		return FINISH_NEXT;
	if (handoff_take_translated(skb))
		return finish(HOOK_TO_NETDEV, VERDICT_PASS);
	result = packet_parse(skb, &packet);
	if (!result)
		result = netdev_egress(skb, &packet, clock_now());
	return finish(HOOK_TO_NETDEV, result);
}
