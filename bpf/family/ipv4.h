/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * IPv4: addresses, header parsing and rewriting, ICMP classification. ipv6.h
 * defines the same names; no other file knows which of the two it is built with.
 */
#pragma once

#define FAMILY_HEADER

#include <linux/types.h>

struct ip_addr {
	__be32 addr;
};

#include "../lib/csum.h"
#include "../lib/packet.h"

#include <linux/ip.h>

#define FAMILY_ETH_P               ETH_P_IP
#define FAMILY_AF                  2 /* AF_INET */
#define FAMILY_ICMP                IPPROTO_ICMP
#define FAMILY_ICMP_PSEUDO_HEADER  false
/* bytes of layer 3 that every path takes: what Linux lets none shrink below by default */
#define FAMILY_FITS_ALWAYS         552

/* RFC 792; <linux/icmp.h> drags in libc's headers */
#define ICMP_ECHOREPLY             0
#define ICMP_DEST_UNREACH          3
#define ICMP_ECHO                  8
#define ICMP_TIME_EXCEEDED         11
#define ICMP_PARAMETERPROB         12
#define ICMP_PORT_UNREACHABLE_TYPE ICMP_DEST_UNREACH
#define ICMP_PORT_UNREACHABLE_CODE 3
#define ICMP_TOO_BIG_TYPE          ICMP_DEST_UNREACH
#define ICMP_TOO_BIG_CODE          4

static __always_inline bool ip_addr_equal(const struct ip_addr *a, const struct ip_addr *b)
{
	return a->addr == b->addr;
}

/* 224.0.0.0/4, the limited broadcast, 0.0.0.0: stays on its link. 169.254.0.0/16
 * does not count: clouds route their metadata service there. */
static __always_inline bool ip_addr_is_link_scoped(const struct ip_addr *a)
{
	__u32 addr = bpf_ntohl(a->addr);

	return addr >> 28 == 0xe || addr == 0xffffffff || addr == 0;
}

/* 169.254.42.1: as whom a pod meets itself behind a service. */
static __always_inline struct ip_addr ip_addr_loopback(void)
{
	struct ip_addr addr = { bpf_htonl(0xa9fe2a01) };

	return addr;
}

/* One's complement difference to add where `from` becomes `to`. */
static __always_inline __u32 ip_addr_csum_diff(const struct ip_addr *from, const struct ip_addr *to)
{
	__u64 sum = (__u64)(__u32)~from->addr + to->addr;

	return (__u32)sum + (sum >> 32);
}

/* Folds `old` -> `new` (32 bits) into a header checksum (RFC 1624, eqn. 3). */
static __always_inline void ip_csum_replace(__sum16 *check, __be32 old, __be32 new)
{
	__u32 sum = (__u16) ~*check;

	sum += (__u16)~old + (__u16)(~old >> 16);
	sum += (__u16) new + (__u16)(new >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*check = ~sum;
}

static __always_inline enum l4 icmp_classify(__u8 type)
{
	switch (type) {
	case ICMP_ECHO:
		return L4_ECHO_REQUEST;
	case ICMP_ECHOREPLY:
		return L4_ECHO_REPLY;
	case ICMP_DEST_UNREACH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		return L4_ICMP_ERROR;
	default:
		return L4_ICMP_OTHER;
	}
}

/* Reads the header at the cursor and leaves it at the transport's. */
static __always_inline int ip_parse(struct cursor *cursor, struct packet *packet)
{
	struct __sk_buff *skb = cursor->skb;
	struct iphdr *ip = cursor_take(cursor, sizeof(*ip));
	__u32 header, total;

	if (!ip)
		return packet_short(skb, ETH_HLEN + sizeof(*ip));
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header < sizeof(*ip))
		return -DROP_MALFORMED;
	/* 0 is the length of a BIG TCP super-packet. */
	if (total && (total < header || total > skb->len - ETH_HLEN))
		return -DROP_MALFORMED;
	packet->tuple.saddr.addr = ip->saddr;
	packet->tuple.daddr.addr = ip->daddr;
	packet->tuple.proto = ip->protocol;
	packet->ttl = ip->ttl;
	packet->l3_len = total;
	/* MF or an offset; DF and the reserved bit do not matter */
	packet->l4 = ip->frag_off & bpf_htons(0x3fff) ? L4_FRAGMENT : L4_OTHER;
	cursor->off = ETH_HLEN + header;
	return PARSE_OK;
}

/* A header without options, as bpf_skb_load_bytes fetches it. */
struct ip_header {
	struct iphdr ip;
};

static __always_inline bool ip_header_tuple(const struct ip_header *header, struct tuple *tuple)
{
	tuple->saddr.addr = header->ip.saddr;
	tuple->daddr.addr = header->ip.daddr;
	tuple->proto = header->ip.protocol;
	return header->ip.version == 4 && header->ip.ihl == 5;
}

/* The header of an ICMP message of `length` bytes. */
static __always_inline void ip_header_fill(struct ip_header *header, const struct ip_addr *from,
					   const struct ip_addr *to, __u32 length)
{
	__builtin_memset(header, 0, sizeof(*header));
	header->ip.version = 4;
	header->ip.ihl = sizeof(header->ip) / 4;
	header->ip.tot_len = bpf_htons(sizeof(header->ip) + length);
	header->ip.ttl = 64;
	header->ip.protocol = IPPROTO_ICMP;
	header->ip.saddr = from->addr;
	header->ip.daddr = to->addr;
	header->ip.check = csum_fold(csum_add(&header->ip, sizeof(header->ip), 0));
}

/* What an ICMP message's checksum covers besides itself: nothing. */
static __always_inline __u32 icmp_pseudo_sum(const struct ip_addr *from, const struct ip_addr *to,
					     __u32 length)
{
	return 0;
}

/* DSCP and ECN (RFC 2474, RFC 3168), or 0. */
static __always_inline __u8 ip_traffic_class(struct __sk_buff *skb)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	struct iphdr *ip = cursor_take(&cursor, sizeof(*ip));

	return ip ? ip->tos : 0;
}

static __always_inline int ip_write_traffic_class(struct __sk_buff *skb, __u8 class)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	struct iphdr *ip = cursor_take(&cursor, sizeof(*ip));

	if (!ip)
		return -DROP_REWRITE;
	ip_csum_replace(&ip->check, bpf_htonl(ip->tos), bpf_htonl(class));
	ip->tos = class;
	return 0;
}

/* Rewrites the source or the destination; the transport's checksum is the caller's. */
static __always_inline int ip_write_addr(struct __sk_buff *skb, bool source,
					 const struct ip_addr *addr)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	struct iphdr *ip = cursor_take(&cursor, sizeof(*ip));
	__be32 *field;

	if (!ip)
		return -DROP_REWRITE;
	field = source ? &ip->saddr : &ip->daddr;
	ip_csum_replace(&ip->check, *field, addr->addr);
	*field = addr->addr;
	return 0;
}

/* One hop less (RFC 1812, 5.3.1). The caller has checked that one is left. */
static __always_inline int ip_decrement_ttl(struct __sk_buff *skb)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	struct iphdr *ip = cursor_take(&cursor, sizeof(*ip));
	__u32 check;

	if (!ip)
		return -DROP_REWRITE;
	check = ip->check + bpf_htons(0x0100);
	ip->check = check + (check >= 0xffff);
	ip->ttl -= 1;
	return 0;
}

/* Corrects what bpf_l4_csum_replace makes of a checksum the device computed
 * over the whole packet. IPv4's header checksum cancels the address: nothing. */
static __always_inline void ip_csum_complete(struct __sk_buff *skb, __u32 diff)
{
}

static __always_inline __u64 ip_csum_flags(void)
{
	return 0;
}

/* Sockets: as the answer from `remote` would look them up. */
static __always_inline __u32 ip_sock_tuple(struct bpf_sock_tuple *sock, const struct tuple *answer)
{
	sock->ipv4.saddr = answer->saddr.addr;
	sock->ipv4.daddr = answer->daddr.addr;
	sock->ipv4.sport = answer->sport;
	sock->ipv4.dport = answer->dport;
	return sizeof(sock->ipv4);
}

static __always_inline void ip_fib_request(struct bpf_fib_lookup *fib, const struct packet *packet)
{
	fib->ipv4_src = packet->tuple.saddr.addr;
	fib->ipv4_dst = packet->tuple.daddr.addr;
}

/* The next hop that a lookup answered; IPv4 may go through an IPv6 router. */
static __always_inline void ip_fib_next_hop(struct bpf_redir_neigh *hop,
					    const struct bpf_fib_lookup *fib)
{
	hop->nh_family = fib->family;
	for (int i = 0; i < 4; i++)
		hop->ipv6_nh[i] = fib->ipv6_dst[i];
}
