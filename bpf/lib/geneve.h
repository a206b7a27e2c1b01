/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Geneve (RFC 8926) between nodes, without a device: Ethernet frames over IPv4, with the
 * frontend that the client asked for in an option. A frame of another form is not ours,
 * whoever's it is.
 */
#pragma once

#include "csum.h"
#include "parse.h"

#include <linux/ip.h>

#define GENEVE_PORT           6081
#define GENEVE_ETHERNET       0x6558 /* transparent Ethernet bridging */
#define GENEVE_CRITICAL       0x40   /* C: some option must be understood */
#define GENEVE_VNI            2      /* of the world's identity */
#define GENEVE_FRONTEND_CLASS 0x014b
#define GENEVE_FRONTEND_TYPE  0x81 /* critical */

#define IP_DONT_FRAGMENT      0x4000
#define ECN_MASK              0x03
#define ECN_NOT_CAPABLE       0x00
#define ECN_CAPABLE_1         0x01
#define ECN_CAPABLE_0         0x02
#define ECN_CONGESTION        0x03

/* Linux 6.3: not in older headers. */
#define DECAP_F_L3_IPV6       (1ULL << 8)

/* Header room that bpf_skb_change_proto() makes on the way to IPv6, bytes. */
#define CHANGE_PROTO_ROOM     20

struct geneve {
	__u8 options; /* version, and length of the options in words */
	__u8 flags;
	__be16 protocol;
	__be32 vni; /* the upper 24 bits */
};

struct geneve_frontend {
	__be16 class;
	__u8 type;
	__u8 length; /* of what follows, words */
	struct ip_addr addr;
	__be16 port;
	__be16 pad;
};

/* Between the outer Ethernet header and the inner one. */
struct geneve_headers {
	struct iphdr ip;
	struct udphdr udp;
	struct geneve geneve;
	struct geneve_frontend frontend;
};

/* Bytes that the tunnel costs. */
#define GENEVE_OVERHEAD     (sizeof(struct geneve_headers) + ETH_HLEN)
#define GENEVE_OPTION_WORDS (sizeof(struct geneve_frontend) / 4)

/* The two ends of a tunnelled packet, and whose packet it is. */
struct geneve_ends {
	__be32 local;
	__be32 remote;
	struct ip_addr frontend;
	__be16 frontend_port;
	__u16 pad; /* named: until 6.3 the verifier wants every byte written */
};

/* An IPv4 or UDP length, which a super-packet may exceed: BIG TCP's way to say so. */
static __always_inline __be16 geneve_length(__u32 length)
{
	return length > 0xffff ? 0 : bpf_htons(length);
}

static __always_inline void geneve_fill_ip(struct iphdr *ip, const struct geneve_ends *ends,
					   __u32 length, __u8 class)
{
	__builtin_memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = class;
	ip->tot_len = geneve_length(length);
	ip->frag_off = bpf_htons(IP_DONT_FRAGMENT);
	ip->ttl = 64;
	ip->protocol = IPPROTO_UDP;
	ip->saddr = ends->local;
	ip->daddr = ends->remote;
	ip->check = csum_fold(csum_add(ip, sizeof(*ip), 0));
}

/* `hash`: of the inner flow, whose packets keep one way (RFC 8926, 3.3). */
static __always_inline void geneve_fill(struct geneve_headers *headers,
					const struct geneve_ends *ends, __u32 length, __u32 hash)
{
	headers->udp.source = bpf_htons(0xc000 | ((hash ^ hash >> 16) & 0x3fff));
	headers->udp.dest = bpf_htons(GENEVE_PORT);
	headers->udp.len = geneve_length(length - sizeof(headers->ip));
	headers->udp.check = 0;
	headers->geneve.options = GENEVE_OPTION_WORDS;
	headers->geneve.flags = GENEVE_CRITICAL;
	headers->geneve.protocol = bpf_htons(GENEVE_ETHERNET);
	headers->geneve.vni = bpf_htonl(GENEVE_VNI << 8);
	headers->frontend.class = bpf_htons(GENEVE_FRONTEND_CLASS);
	headers->frontend.type = GENEVE_FRONTEND_TYPE;
	headers->frontend.length = GENEVE_OPTION_WORDS - 1;
	headers->frontend.addr = ends->frontend;
	headers->frontend.port = ends->frontend_port;
	headers->frontend.pad = 0;
}

/*
 * Wraps a packet, as it is, for another node. The flags let the kernel split a
 * super-packet into segments that each have all headers; FIXED_GSO leaves their payload
 * as it is. `shorten`: it becomes smaller by what the tunnel costs, so that segments that fit
 * the path still do; TCP only. 0, or -DROP_REWRITE.
 */
__noinline int geneve_wrap(struct __sk_buff *skb, const struct geneve_ends *ends, bool shorten)
{
	struct cursor cursor = { .skb = skb };
	__u32 hash = bpf_get_hash_recalc(skb);
	__u8 class = ip_traffic_class(skb);
	struct geneve_headers *headers;
	struct ethhdr *outer, *inner;
	__u64 flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
		      BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;

	if (!ends)
		return -DROP_REWRITE;
	if (!shorten)
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;
	if (bpf_skb_adjust_room(skb, GENEVE_OVERHEAD, BPF_ADJ_ROOM_MAC, flags))
		return -DROP_REWRITE;
	outer = cursor_take(&cursor, sizeof(*outer));
	headers = cursor_take(&cursor, sizeof(*headers));
	inner = cursor_take(&cursor, sizeof(*inner));
	if (!outer || !headers || !inner)
		return -DROP_REWRITE;
	*inner = *outer;
	outer->h_proto = bpf_htons(ETH_P_IP);
	geneve_fill_ip(&headers->ip, ends, skb->len - ETH_HLEN, class);
	geneve_fill(headers, ends, skb->len - ETH_HLEN, hash);
	return 0;
}

/* Does anything speak for Geneve? To be asked of every packet: the IPv6 hooks see
 * IPv4's too, for what is in it. */
static __always_inline bool geneve_is_likely(struct __sk_buff *skb)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	struct udphdr *udp;
	struct iphdr *ip;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return false;
	ip = cursor_take(&cursor, sizeof(*ip));
	udp = cursor_take(&cursor, sizeof(*udp));
	/* not in the linear part: worth a better look */
	return !ip || !udp || (ip->protocol == IPPROTO_UDP && udp->dest == bpf_htons(GENEVE_PORT));
}

/* Reads the headers of a frame of our form, with a packet of this family in it. */
static __always_inline bool geneve_read(struct __sk_buff *skb, struct geneve_ends *ends,
					__u8 *class)
{
	struct cursor cursor = { .skb = skb, .off = ETH_HLEN };
	struct geneve_headers *headers = cursor_take(&cursor, sizeof(*headers));
	struct ethhdr *inner = cursor_take(&cursor, sizeof(*inner));

	if (!headers || !inner)
		return false;
	if (headers->ip.version != 4 || headers->ip.ihl != sizeof(headers->ip) / 4 ||
	    (headers->ip.frag_off & bpf_htons(0x3fff)) || headers->ip.protocol != IPPROTO_UDP ||
	    headers->udp.dest != bpf_htons(GENEVE_PORT))
		return false;
	if (headers->geneve.options != GENEVE_OPTION_WORDS ||
	    headers->geneve.flags != GENEVE_CRITICAL ||
	    headers->geneve.protocol != bpf_htons(GENEVE_ETHERNET) ||
	    headers->frontend.class != bpf_htons(GENEVE_FRONTEND_CLASS) ||
	    headers->frontend.type != GENEVE_FRONTEND_TYPE ||
	    headers->frontend.length != GENEVE_OPTION_WORDS - 1 ||
	    inner->h_proto != bpf_htons(FAMILY_ETH_P))
		return false;
	ends->local = headers->ip.daddr;
	ends->remote = headers->ip.saddr;
	ends->frontend = headers->frontend.addr;
	ends->frontend_port = headers->frontend.port;
	*class = headers->ip.tos;
	return true;
}

/* A frame to the Geneve port, of our form and this family? */
static __noinline bool geneve_peek(struct __sk_buff *skb, struct geneve_ends *ends, __u8 *class)
{
	__u32 size = ETH_HLEN + GENEVE_OVERHEAD;

	if (skb->len < size || bpf_skb_pull_data(skb, size))
		return false;
	return geneve_read(skb, ends, class);
}

/* Takes the outer headers away. What the inner ones will be is the kernel's to know, too:
 * before 6.3 it can only be told by making them. */
static __always_inline int geneve_strip(struct __sk_buff *skb)
{
	__s32 room = -(__s32)GENEVE_OVERHEAD;

	if (FAMILY_ETH_P == ETH_P_IP)
		return bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
	if (!bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC,
				 BPF_F_ADJ_ROOM_FIXED_GSO | DECAP_F_L3_IPV6))
		return 0;
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0))
		return -1;
	return bpf_skb_adjust_room(skb, room - CHANGE_PROTO_ROOM, BPF_ADJ_ROOM_MAC,
				   BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* What was in the tunnel is what the frame says it holds. */
static __always_inline int geneve_reveal(struct __sk_buff *skb)
{
	struct cursor cursor = { .skb = skb };
	struct ethhdr *eth = cursor_take(&cursor, sizeof(*eth));

	if (!eth)
		return -1;
	eth->h_proto = bpf_htons(FAMILY_ETH_P);
	return 0;
}

/* The traffic class of what was in the tunnel, where its own was `inner` and the tunnel's
 * `outer` (RFC 6040, 4.2). Negative: congestion that nobody could be told of. */
static __always_inline int geneve_traffic_class(__u8 inner, __u8 outer)
{
	__u8 ecn = inner & ECN_MASK;

	if ((outer & ECN_MASK) == ECN_CONGESTION) {
		if (ecn == ECN_NOT_CAPABLE)
			return -1;
		ecn = ECN_CONGESTION;
	} else if ((outer & ECN_MASK) == ECN_CAPABLE_1 && ecn == ECN_CAPABLE_0) {
		ecn = ECN_CAPABLE_1;
	}
	return (inner & ~ECN_MASK) | ecn;
}

/* Unwraps a frame that geneve_peek() has seen, and reads what was in it. `outer`: the tunnel's
 * traffic class. PARSE_OK, or a negative drop reason. */
static __noinline int geneve_unwrap(struct __sk_buff *skb, struct packet *packet, __u8 outer)
{
	int result, class;
	__u8 inner;

	if (geneve_strip(skb) || geneve_reveal(skb))
		return -DROP_REWRITE;
	result = parse_pulled(skb, packet);
	if (!result)
		result = parse_length(skb, packet);
	if (result)
		return -DROP_TUNNEL_MALFORMED;
	inner = ip_traffic_class(skb);
	class = geneve_traffic_class(inner, outer);
	if (class < 0)
		return -DROP_TUNNEL_MALFORMED;
	return class == inner ? PARSE_OK : ip_write_traffic_class(skb, class);
}
