/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The node's answer to a packet that it does not know.
 *
 * A reply whose reverse half is gone reaches the host, which answers with a bare
 * RST or a port unreachable and so ends the flow that the pod's next packet
 * would have repaired. Both are held back when nothing of the node's own can
 * have wanted them.
 */
#pragma once

#include "port_alloc.h"
#include "snat.h"

/* Reads addresses and protocol of a quoted header; its length, or 0. Quotes with
 * options or extension headers are not looked into. */
static __always_inline __u32 half_lost_quote(struct __sk_buff *skb, __u32 off, struct tuple *tuple)
{
	struct ip_header header;

	if (bpf_skb_load_bytes(skb, off, &header, sizeof(header)))
		return 0;
	return ip_header_tuple(&header, tuple) ? sizeof(header) : 0;
}

static __always_inline bool half_lost_unreachable(struct __sk_buff *skb,
						  const struct packet *packet,
						  const struct device *device)
{
	struct packet quoted = { .l4 = L4_UDP };
	__u8 code;
	__u32 off;

	if (packet->icmp_type != ICMP_PORT_UNREACHABLE_TYPE ||
	    bpf_skb_load_bytes(skb, packet->l4_off + 1, &code, sizeof(code)) ||
	    code != ICMP_PORT_UNREACHABLE_CODE)
		return false;
	off = packet->l4_off + 8;
	off += half_lost_quote(skb, off, &quoted.tuple);
	if (off == packet->l4_off + 8 || quoted.tuple.proto != IPPROTO_UDP ||
	    bpf_skb_load_bytes(skb, off, &quoted.tuple.sport, 4))
		return false;
	return ip_addr_equal(&quoted.tuple.daddr, &device->addr) &&
	       nat_range_contains(device, &quoted, quoted.tuple.dport) &&
	       !port_has_socket(skb, L4_UDP, &quoted.tuple);
}

/* `packet` was made by the node and leaves from its masquerade address. */
__noinline bool half_lost(struct __sk_buff *skb, const struct packet *packet,
			  const struct device *device)
{
	struct tuple answered;

	if (!packet || !device)
		return false;
	if (packet->l4 == L4_ICMP_ERROR)
		return half_lost_unreachable(skb, packet, device);
	if (packet->l4 != L4_TCP || (packet->tcp_flags & (TCP_RST | TCP_ACK)) != TCP_RST ||
	    !nat_range_contains(device, packet, packet->tuple.sport))
		return false;
	tuple_reverse(&answered, &packet->tuple, KIND_IN);
	return !port_has_socket(skb, L4_TCP, &answered);
}
