/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Changing one end of a packet so that its checksums stay what a full
 * recomputation would give: with offloads (CHECKSUM_PARTIAL), super-packets, and
 * datagrams without a checksum.
 */
#pragma once

#include "packet.h"

enum rewrite_end {
	REWRITE_SOURCE,
	REWRITE_DESTINATION,
};

/* Offset of the transport checksum in its header, or -1. */
static __always_inline int rewrite_csum_offset(const struct packet *packet)
{
	switch (packet->l4) {
	case L4_TCP:
		return 16;
	case L4_UDP:
		return 6;
	case L4_ECHO_REQUEST:
	case L4_ECHO_REPLY:
		return 2;
	default:
		return -1; /* SCTP's CRC32c does not cover addresses */
	}
}

/* Does the transport's checksum cover the addresses? */
static __always_inline bool rewrite_has_pseudo_header(const struct packet *packet)
{
	return packet->l4 == L4_TCP || packet->l4 == L4_UDP || FAMILY_ICMP_PSEUDO_HEADER;
}

/* Where the port, or the echo identifier, of this end stands in the frame. */
static __always_inline __u32 rewrite_port_offset(const struct packet *packet, enum rewrite_end end)
{
	if (packet_is_echo(packet))
		return packet->l4_off + 4;
	return packet->l4_off + (end == REWRITE_SOURCE ? 0 : 2);
}

static __always_inline int rewrite_port(struct __sk_buff *skb, const struct packet *packet,
					enum rewrite_end end, __be16 port)
{
	struct cursor cursor = { .skb = skb, .off = rewrite_port_offset(packet, end) };
	__be16 *field = cursor_take(&cursor, sizeof(*field));

	if (!field)
		return -DROP_REWRITE;
	*field = port;
	return 0;
}

/* Writes address and port of one end. 0, or -DROP_REWRITE. packet->tuple keeps
 * what the packet said before. */
__noinline int rewrite(struct __sk_buff *skb, const struct packet *packet, enum rewrite_end end,
		       const struct ip_addr *addr, __be16 port)
{
	bool source = end == REWRITE_SOURCE;
	const struct ip_addr *old_addr;
	int csum_offset;
	__be16 old_port;
	__u64 mangled;

	if (!packet || !addr)
		return -DROP_REWRITE;
	old_addr = source ? &packet->tuple.saddr : &packet->tuple.daddr;
	old_port = source ? packet->tuple.sport : packet->tuple.dport;
	csum_offset = rewrite_csum_offset(packet);
	mangled = packet->l4 == L4_UDP ? BPF_F_MARK_MANGLED_0 : 0;

	if (csum_offset >= 0) {
		__u32 check = packet->l4_off + csum_offset;

		if (rewrite_has_pseudo_header(packet)) {
			__u32 diff = ip_addr_csum_diff(old_addr, addr);

			if (bpf_l4_csum_replace(skb, check, 0, diff,
						BPF_F_PSEUDO_HDR | mangled | ip_csum_flags()))
				return -DROP_REWRITE;
			ip_csum_complete(skb, diff);
		}
		/* never with the pseudo header's flag: a device that is to complete the
		 * checksum (CHECKSUM_PARTIAL) sums the ports itself */
		if (port != old_port &&
		    bpf_l4_csum_replace(skb, check, old_port, port, 2 | mangled))
			return -DROP_REWRITE;
	}
	if (port != old_port && rewrite_port(skb, packet, end, port))
		return -DROP_REWRITE;
	return ip_write_addr(skb, source, addr);
}
