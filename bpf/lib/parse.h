/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to `struct packet`, with one pull when the headers are not linear. */
#pragma once

#include "packet.h"

#include <linux/tcp.h>
#include <linux/udp.h>

struct sctp {
	__be16 source;
	__be16 dest;
	__be32 tag;
	__be32 checksum;
};

struct echo {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

static __always_inline int parse_tcp(struct cursor *cursor, struct packet *packet)
{
	struct tcphdr *tcp = cursor_take(cursor, sizeof(*tcp));

	if (!tcp)
		return packet_short(cursor->skb, cursor->off + sizeof(*tcp));
	if (tcp->doff * 4 < sizeof(*tcp))
		return -DROP_MALFORMED;
	packet->l4 = L4_TCP;
	packet->l4_len = tcp->doff * 4;
	packet->tuple.sport = tcp->source;
	packet->tuple.dport = tcp->dest;
	packet->tcp_flags = ((__u8 *)tcp)[13];
	return PARSE_OK;
}

/* 0 for the length is a jumbogram's, which has none in its IP header either (RFC 2675). */
static __always_inline int parse_udp(struct cursor *cursor, struct packet *packet)
{
	struct udphdr *udp = cursor_take(cursor, sizeof(*udp));
	__u32 length;

	if (!udp)
		return packet_short(cursor->skb, cursor->off + sizeof(*udp));
	length = bpf_ntohs(udp->len);
	if (packet->l3_len &&
	    (length < sizeof(*udp) || packet->l4_off - ETH_HLEN + length > packet->l3_len))
		return -DROP_MALFORMED;
	packet->l4 = L4_UDP;
	packet->l4_len = sizeof(*udp);
	packet->tuple.sport = udp->source;
	packet->tuple.dport = udp->dest;
	return PARSE_OK;
}

static __always_inline int parse_sctp(struct cursor *cursor, struct packet *packet)
{
	struct sctp *sctp = cursor_take(cursor, sizeof(*sctp));

	if (!sctp)
		return packet_short(cursor->skb, cursor->off + sizeof(*sctp));
	packet->l4 = L4_SCTP;
	packet->l4_len = sizeof(*sctp);
	packet->tuple.sport = sctp->source;
	packet->tuple.dport = sctp->dest;
	return PARSE_OK;
}

static __always_inline int parse_icmp(struct cursor *cursor, struct packet *packet)
{
	struct echo *icmp = cursor_take(cursor, sizeof(*icmp));

	if (!icmp)
		return packet_short(cursor->skb, cursor->off + sizeof(*icmp));
	packet->icmp_type = icmp->type;
	packet->l4_len = sizeof(*icmp);
	packet->l4 = icmp_classify(icmp->type);
	if (packet->l4 == L4_ECHO_REQUEST)
		packet->tuple.sport = icmp->id;
	else if (packet->l4 == L4_ECHO_REPLY)
		packet->tuple.dport = icmp->id;
	return PARSE_OK;
}

static __always_inline int parse_transport(struct cursor *cursor, struct packet *packet)
{
	packet->l4_off = cursor->off;
	if (packet->l4 == L4_FRAGMENT)
		return PARSE_OK;
	switch (packet->tuple.proto) {
	case IPPROTO_TCP:
		return parse_tcp(cursor, packet);
	case IPPROTO_UDP:
		return parse_udp(cursor, packet);
	case IPPROTO_SCTP:
		return parse_sctp(cursor, packet);
	case FAMILY_ICMP:
		return parse_icmp(cursor, packet);
	default:
		return PARSE_OK;
	}
}

static __always_inline int parse_linear(struct __sk_buff *skb, struct packet *packet)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	int result;

	result = ip_parse(&cursor, packet);
	return result ? result : parse_transport(&cursor, packet);
}

/* Headers beyond the length that the packet announces are padding, not headers. A
 * super-packet may announce none; its segments' length is what MTUs are compared
 * with. */
static __always_inline int parse_length(struct __sk_buff *skb, struct packet *packet)
{
	__u32 headers = packet->l4_off - ETH_HLEN + packet->l4_len;
	__u32 segment = CTX_LOAD(skb, gso_size);

	if (segment)
		packet->l3_len = headers + segment;
	else if (headers > packet->l3_len)
		return -DROP_MALFORMED;
	return PARSE_OK;
}

#define VLAN_ID_MASK 0x0fff

/* What arrives with a VLAN tag belongs to the VLAN's own device and its hooks: sent
 * on from here, a pod's would enter a VLAN of the uplink. */
static __always_inline bool packet_is_tagged(struct __sk_buff *skb)
{
	return CTX_LOAD(skb, vlan_present) && (CTX_LOAD(skb, vlan_tci) & VLAN_ID_MASK);
}

/* Takes off a tag that names no VLAN but a priority (802.1p): to the kernel, too, such
 * a packet is the device's own. 0 or a drop reason. */
static __always_inline int packet_untag(struct __sk_buff *skb)
{
	return CTX_LOAD(skb, vlan_present) && bpf_skb_vlan_pop(skb) ? -DROP_MALFORMED : 0;
}

/* Of this family, and of no other protocol. */
static __always_inline bool packet_is_ours(const struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(FAMILY_ETH_P);
}

/* The second try, with all headers in the linear part. */
static __noinline int parse_pulled(struct __sk_buff *skb, struct packet *packet)
{
	__u32 headers = skb->len < PACKET_HEADERS ? skb->len : PACKET_HEADERS;
	int result;

	if (bpf_skb_pull_data(skb, headers))
		return -DROP_MALFORMED;
	__builtin_memset(packet, 0, sizeof(*packet));
	result = parse_linear(skb, packet);
	return result == PARSE_SHORT ? -DROP_MALFORMED : result;
}

/* PARSE_OK, or a negative drop reason. */
static __always_inline int packet_parse(struct __sk_buff *skb, struct packet *packet)
{
	int result;

	__builtin_memset(packet, 0, sizeof(*packet));
	result = parse_linear(skb, packet);
	if (result == PARSE_SHORT)
		result = parse_pulled(skb, packet);
	return result ? result : parse_length(skb, packet);
}
