/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * IPv6: addresses, header parsing and rewriting, ICMP classification. ipv4.h
 * defines the same names; no other file knows which of the two it is built with.
 */
#pragma once

#define FAMILY_HEADER

#include <linux/types.h>

struct ip_addr {
	__be32 addr[4];
};

#include "../config.h"
#include "../lib/csum.h"
#include "../lib/packet.h"

#include <linux/icmpv6.h>
#include <linux/ipv6.h>

#define FAMILY_ETH_P               ETH_P_IPV6
#define FAMILY_AF                  10 /* AF_INET6 */
#define FAMILY_ICMP                IPPROTO_ICMPV6
#define FAMILY_ICMP_PSEUDO_HEADER  true
/* bytes of layer 3 that every path takes (RFC 8200, 5) */
#define FAMILY_FITS_ALWAYS         1280

#define ICMP_PORT_UNREACHABLE_TYPE ICMPV6_DEST_UNREACH
#define ICMP_PORT_UNREACHABLE_CODE ICMPV6_PORT_UNREACH
#define ICMP_TOO_BIG_TYPE          ICMPV6_PKT_TOOBIG
#define ICMP_TOO_BIG_CODE          0

/* Extension headers that are walked before a packet is given up on. */
#define IP_EXTENSION_HEADERS       8

/* BPF_F_IPV6, Linux 6.16: not in older headers. */
#define CSUM_F_IPV6                (1ULL << 7)

static __always_inline bool ip_addr_equal(const struct ip_addr *a, const struct ip_addr *b)
{
	return a->addr[0] == b->addr[0] && a->addr[1] == b->addr[1] && a->addr[2] == b->addr[2] &&
	       a->addr[3] == b->addr[3];
}

/* ff00::/8, fe80::/10, ::, ::1: stays on its link. */
static __always_inline bool ip_addr_is_link_scoped(const struct ip_addr *a)
{
	__u32 first = bpf_ntohl(a->addr[0]);

	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6 ||
	       !(a->addr[0] | a->addr[1] | a->addr[2] | (a->addr[3] & bpf_htonl(0xfffffffe)));
}

/* fd73:656b:6973::1: as whom a pod meets itself behind a service. */
static __always_inline struct ip_addr ip_addr_loopback(void)
{
	struct ip_addr addr = { {
		bpf_htonl(0xfd73656b),
		bpf_htonl(0x69730000),
		0,
		bpf_htonl(1),
	} };

	return addr;
}

/* One's complement difference to add where `from` becomes `to`. */
static __always_inline __u32 ip_addr_csum_diff(const struct ip_addr *from, const struct ip_addr *to)
{
	__u64 sum = 0;

	for (int i = 0; i < 4; i++)
		sum += (__u64)(__u32)~from->addr[i] + to->addr[i];
	sum = (__u32)sum + (sum >> 32);
	return (__u32)sum + (sum >> 32);
}

static __always_inline enum l4 icmp_classify(__u8 type)
{
	switch (type) {
	case ICMPV6_ECHO_REQUEST:
		return L4_ECHO_REQUEST;
	case ICMPV6_ECHO_REPLY:
		return L4_ECHO_REPLY;
	case ICMPV6_DEST_UNREACH:
	case ICMPV6_PKT_TOOBIG:
	case ICMPV6_TIME_EXCEED:
	case ICMPV6_PARAMPROB:
		return L4_ICMP_ERROR;
	case 130 ... 137: /* MLD, RFC 2710; neighbour discovery and redirect, RFC 4861 */
	case 143:         /* MLDv2, RFC 3810 */
		return L4_NEIGHBOUR;
	default:
		return L4_ICMP_OTHER;
	}
}

/* The bytes of an extension header, or 0 when `next` is none. */
static __always_inline __u32 ip_extension_length(__u8 next, __u8 length)
{
	switch (next) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case 135: /* mobility, RFC 6275 */
		return (length + 1) * 8;
	case IPPROTO_FRAGMENT:
		return 8;
	default:
		return 0;
	}
}

/* Reads the headers at the cursor and leaves it at the transport's. */
static __always_inline int ip_parse(struct cursor *cursor, struct packet *packet)
{
	struct __sk_buff *skb = cursor->skb;
	struct ipv6hdr *ip = cursor_take(cursor, sizeof(*ip));
	__u32 payload;

	if (!ip)
		return packet_short(skb, ETH_HLEN + sizeof(*ip));
	payload = bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || payload + sizeof(*ip) > skb->len - ETH_HLEN)
		return -DROP_MALFORMED;
	__builtin_memcpy(&packet->tuple.saddr, &ip->saddr, sizeof(packet->tuple.saddr));
	__builtin_memcpy(&packet->tuple.daddr, &ip->daddr, sizeof(packet->tuple.daddr));
	packet->tuple.proto = ip->nexthdr;
	packet->ttl = ip->hop_limit;
	packet->l3_len = payload + sizeof(*ip);
	packet->l4 = L4_OTHER;
	/* unrolled: until 6.8 a loop must not be closed by falling through to its head,
	 * and the compiler lays this one out so */
#pragma unroll
	for (int i = 0; i <= IP_EXTENSION_HEADERS; i++) {
		struct ipv6_opt_hdr *extension;
		__u32 length, start = cursor->off;

		if (!ip_extension_length(packet->tuple.proto, 0))
			return PARSE_OK;
		if (i == IP_EXTENSION_HEADERS || start > PACKET_HEADERS - 8)
			return -DROP_EXTENSION_HEADERS;
		extension = cursor_take(cursor, 8);
		if (!extension)
			return packet_short(skb, start + 8);
		length = ip_extension_length(packet->tuple.proto, extension->hdrlen);
		if (packet->tuple.proto == IPPROTO_FRAGMENT)
			packet->l4 = L4_FRAGMENT;
		packet->tuple.proto = extension->nexthdr;
		cursor->off = start + length;
		if (packet->l4 == L4_FRAGMENT)
			return PARSE_OK;
	}
	return PARSE_OK;
}

/* A header without extensions, as bpf_skb_load_bytes fetches it. */
struct ip_header {
	struct ipv6hdr ip;
};

static __always_inline bool ip_header_tuple(const struct ip_header *header, struct tuple *tuple)
{
	__builtin_memcpy(&tuple->saddr, &header->ip.saddr, sizeof(tuple->saddr));
	__builtin_memcpy(&tuple->daddr, &header->ip.daddr, sizeof(tuple->daddr));
	tuple->proto = header->ip.nexthdr;
	return header->ip.version == 6;
}

/* The header of an ICMP message of `length` bytes. */
static __always_inline void ip_header_fill(struct ip_header *header, const struct ip_addr *from,
					   const struct ip_addr *to, __u32 length)
{
	__builtin_memset(header, 0, sizeof(*header));
	header->ip.version = 6;
	header->ip.payload_len = bpf_htons(length);
	header->ip.nexthdr = IPPROTO_ICMPV6;
	header->ip.hop_limit = 64;
	__builtin_memcpy(&header->ip.saddr, from, sizeof(*from));
	__builtin_memcpy(&header->ip.daddr, to, sizeof(*to));
}

/* What an ICMP message's checksum covers besides itself (RFC 8200, 8.1). */
static __always_inline __u32 icmp_pseudo_sum(const struct ip_addr *from, const struct ip_addr *to,
					     __u32 length)
{
	__u32 sum = csum_add(to, sizeof(*to), csum_add(from, sizeof(*from), 0));

	return csum_add_word(sum, bpf_htonl(length + IPPROTO_ICMPV6));
}

/* DSCP and ECN (RFC 2474, RFC 3168), or 0. */
static __always_inline __u8 ip_traffic_class(struct __sk_buff *skb)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	__be32 *word = cursor_take(&cursor, sizeof(struct ipv6hdr));

	return word ? bpf_ntohl(*word) >> 20 : 0;
}

/* No header checksum cancels it, so a checksum that the device computed over the whole
 * packet is told. */
static __always_inline int ip_write_traffic_class(struct __sk_buff *skb, __u8 class)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	__be32 *word = cursor_take(&cursor, sizeof(struct ipv6hdr));
	__be32 old;

	if (!word)
		return -DROP_REWRITE;
	old = *word;
	*word = (old & bpf_htonl(0xf00fffff)) | bpf_htonl(class << 20);
	bpf_csum_update(skb, csum_add_word(~old, *word));
	return 0;
}

/* Rewrites the source or the destination; the transport's checksum is the caller's. */
static __always_inline int ip_write_addr(struct __sk_buff *skb, bool source,
					 const struct ip_addr *addr)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	struct ipv6hdr *ip = cursor_take(&cursor, sizeof(*ip));

	if (!ip)
		return -DROP_REWRITE;
	if (source)
		__builtin_memcpy(&ip->saddr, addr, sizeof(*addr));
	else
		__builtin_memcpy(&ip->daddr, addr, sizeof(*addr));
	return 0;
}

/* One hop less. No header checksum cancels it, so a checksum that the device
 * computed over the whole packet is told. */
static __always_inline int ip_decrement_ttl(struct __sk_buff *skb)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	struct ipv6hdr *ip = cursor_take(&cursor, sizeof(*ip));

	if (!ip)
		return -DROP_REWRITE;
	ip->hop_limit -= 1;
	bpf_csum_update(skb, (__u16)~bpf_htons(1));
	return 0;
}

/* bpf_l4_csum_replace takes the pseudo header's change for a change of the
 * packet's sum, as IPv4's header checksum would make it. In IPv6 address and
 * checksum cancel, so the sum is put right again; from 6.16 a flag does it. */
static __always_inline void ip_csum_complete(struct __sk_buff *skb, __u32 diff)
{
	if (!config.csum_ipv6)
		bpf_csum_update(skb, diff);
}

static __always_inline __u64 ip_csum_flags(void)
{
	return config.csum_ipv6 ? CSUM_F_IPV6 : 0;
}

/* Sockets: as the answer from `remote` would look them up. */
static __always_inline __u32 ip_sock_tuple(struct bpf_sock_tuple *sock, const struct tuple *answer)
{
	__builtin_memcpy(sock->ipv6.saddr, &answer->saddr, sizeof(answer->saddr));
	__builtin_memcpy(sock->ipv6.daddr, &answer->daddr, sizeof(answer->daddr));
	sock->ipv6.sport = answer->sport;
	sock->ipv6.dport = answer->dport;
	return sizeof(sock->ipv6);
}

static __always_inline void ip_fib_request(struct bpf_fib_lookup *fib, const struct packet *packet)
{
	__builtin_memcpy(fib->ipv6_src, &packet->tuple.saddr, sizeof(packet->tuple.saddr));
	__builtin_memcpy(fib->ipv6_dst, &packet->tuple.daddr, sizeof(packet->tuple.daddr));
}

/* The next hop that a lookup answered. */
static __always_inline void ip_fib_next_hop(struct bpf_redir_neigh *hop,
					    const struct bpf_fib_lookup *fib)
{
	hop->nh_family = fib->family;
	for (int i = 0; i < 4; i++)
		hop->ipv6_nh[i] = fib->ipv6_dst[i];
}
