/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A hook's own ICMP error: the packet is turned round in place and goes back out of the
 * interface that it came in by, from the address that it was for.
 */
#pragma once

#include "handoff.h"
#include "counters.h"
#include "packet.h"

#include <linux/if_packet.h>

/* A negative result with this bit: dropped for the reason beside it, and what the packet
 * has become goes to its sender. */
#define DROP_ANSWERED   0x100

/* ICMP errors of a second, of all CPUs (RFC 1812, 4.3.2.8; RFC 4443, 2.4f). */
#define ICMP_REPLY_RATE 1000

/* Bytes of the IP header that are quoted at most: more than IPv4's longest. */
#define ICMP_QUOTED_IP  64

/* Bytes of the transport that are quoted: ports, sequence, and the checksum. */
#define ICMP_QUOTED_TCP 20
#define ICMP_QUOTED_UDP 8

struct icmp_error {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 mtu;
};

struct icmp_reply {
	struct ip_header ip;
	struct icmp_error icmp;
};

/* Counts what the quote takes of this second's share. */
static __always_inline bool icmp_reply_may(__u32 now)
{
	__u32 zero = 0;
	struct family_state *state = bpf_map_lookup_elem(&family_state, &zero);

	if (!state)
		return false;
	if (state->errors_second != now) {
		WRITE_ONCE(state->errors_sent, 0);
		WRITE_ONCE(state->errors_second, now);
	}
	return __sync_fetch_and_add(&state->errors_sent, 1) < ICMP_REPLY_RATE;
}

/*
 * Sums the quoted transport header, and gives it a checksum that is one of the quote alone.
 *
 * The device may still be told to fill it in (CHECKSUM_PARTIAL: a packet of this machine,
 * or a super-packet), after which the bytes must sum to the same. It writes
 * p' = -(rest + p); both are the same where 2p = -rest. In one's complement half of a
 * number is the number turned right by a bit.
 */
static __always_inline int icmp_reply_quote(struct __sk_buff *skb, const struct packet *packet,
					    __u32 *sum)
{
	bool tcp = packet->l4 == L4_TCP;
	__u32 field = packet->l4_off + (tcp ? 16 : 6);
	__u16 bytes[ICMP_QUOTED_TCP / 2] = {};
	__u16 half, *check = tcp ? &bytes[8] : &bytes[3];

	if (bpf_skb_load_bytes(skb, packet->l4_off, bytes, ICMP_QUOTED_UDP))
		return -1;
	if (tcp && bpf_skb_load_bytes(skb, packet->l4_off, bytes, ICMP_QUOTED_TCP))
		return -1;
	if (*check) {
		*check = 0;
		half = csum_fold(csum_add(bytes, sizeof(bytes), 0));
		*check = half >> 1 | half << 15;
		if (bpf_skb_store_bytes(skb, field, check, sizeof(*check), 0))
			return -1;
	}
	*sum = csum_add(bytes, sizeof(bytes), *sum);
	return 0;
}

/* Adds the quoted IP header, options and extensions included. */
static __always_inline int icmp_reply_quote_ip(struct __sk_buff *skb, __u32 size, __u32 *sum)
{
	__be32 bytes[ICMP_QUOTED_IP / 4] = {};

	if (size < sizeof(struct ip_header) || size > sizeof(bytes))
		return -1;
	if (bpf_skb_load_bytes(skb, ETH_HLEN, bytes, size))
		return -1;
	*sum = csum_add(bytes, sizeof(bytes), *sum);
	return 0;
}

/* Back to who sent the frame. */
static __always_inline int icmp_reply_turn(struct __sk_buff *skb)
{
	struct cursor cursor = { .skb = skb };
	struct ethhdr *eth = cursor_take(&cursor, sizeof(*eth));
	__u8 addr[ETH_ALEN];

	if (!eth)
		return -1;
	__builtin_memcpy(addr, eth->h_dest, ETH_ALEN);
	__builtin_memcpy(eth->h_dest, eth->h_source, ETH_ALEN);
	__builtin_memcpy(eth->h_source, addr, ETH_ALEN);
	return 0;
}

/* Writes the headers before a quote of `size` bytes that sum to `sum`. */
static __always_inline int icmp_reply_write(struct __sk_buff *skb, const struct packet *packet,
					    struct icmp_error error, __u32 size, __u32 sum)
{
	struct icmp_reply reply = { .icmp = error };
	__u32 length = sizeof(reply.icmp) + size;

	ip_header_fill(&reply.ip, &packet->tuple.daddr, &packet->tuple.saddr, length);
	sum = csum_add_word(sum,
			    icmp_pseudo_sum(&packet->tuple.daddr, &packet->tuple.saddr, length));
	reply.icmp.checksum = csum_fold(csum_add(&reply.icmp, sizeof(reply.icmp), sum));
	return bpf_skb_store_bytes(skb, ETH_HLEN, &reply, sizeof(reply), 0);
}

/* The packet becomes the error, with its headers as the quote. */
static __always_inline int icmp_reply_make(struct __sk_buff *skb, const struct packet *packet,
					   __u32 reason)
{
	__u32 size = packet->l4_off - ETH_HLEN;
	struct icmp_error error = {};
	__u32 sum = 0;

	if (reason == DROP_TOO_BIG) {
		error.type = ICMP_TOO_BIG_TYPE;
		error.code = ICMP_TOO_BIG_CODE;
		error.mtu = bpf_htonl(packet->mtu);
	} else {
		error.type = ICMP_PORT_UNREACHABLE_TYPE;
		error.code = ICMP_PORT_UNREACHABLE_CODE;
	}
	if (icmp_reply_quote_ip(skb, size, &sum) || icmp_reply_quote(skb, packet, &sum))
		return -1;
	size += packet->l4 == L4_TCP ? ICMP_QUOTED_TCP : ICMP_QUOTED_UDP;
	/* a super-packet is one no more */
	if (bpf_skb_change_tail(skb, ETH_HLEN + size, 0) ||
	    bpf_skb_adjust_room(skb, sizeof(struct icmp_reply), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	return icmp_reply_turn(skb) ? -1 : icmp_reply_write(skb, packet, error, size, sum);
}

/*
 * Tells the sender of a packet that is dropped, where the rate allows: DROP_TOO_BIG as the router
 * that cannot forward it, DROP_SERVICE_NO_BACKEND as the host that has nobody on that port.
 * `packet` is what the packet says now. Never to who cannot have asked for it (RFC 1122, 3.2.2).
 * Not 0: done, and the reason is to be returned with DROP_ANSWERED.
 */
static __noinline int icmp_reply(struct __sk_buff *skb, const struct packet *packet, __u32 reason,
				 __u32 now)
{
	__u32 addressed = CTX_LOAD(skb, pkt_type);

	if (!packet || packet->l4 > L4_UDP || addressed == PACKET_BROADCAST ||
	    addressed == PACKET_MULTICAST || ip_addr_is_link_scoped(&packet->tuple.saddr) ||
	    !icmp_reply_may(now) || icmp_reply_make(skb, packet, reason))
		return 0;
	handoff_write_translated(skb);
	bpf_redirect(CTX_LOAD(skb, ifindex), 0);
	return 1;
}

/* A negative drop reason, told to the sender where that is possible. */
static __always_inline int icmp_reply_drop(struct __sk_buff *skb, const struct packet *packet,
					   enum drop_reason reason, __u32 now)
{
	return icmp_reply(skb, packet, reason, now) ? -(int)(reason | DROP_ANSWERED) : -(int)reason;
}
