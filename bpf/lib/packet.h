/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a hook needs to know of a packet, and the cursor that reads it. */
#pragma once

#include "../abi.h"

#include <linux/if_ether.h>
#include <linux/in.h>

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* What the transport is to NAT: how its ports are found and rewritten. */
enum l4 {
	L4_TCP,
	L4_UDP,
	L4_SCTP,
	L4_ECHO_REQUEST,
	L4_ECHO_REPLY,
	L4_ICMP_ERROR,
	L4_ICMP_OTHER,
	L4_NEIGHBOUR, /* neighbour discovery and MLD: never anybody's flow */
	L4_FRAGMENT,  /* no ports to be seen, or not in every piece */
	L4_OTHER,
};

struct packet {
	struct tuple tuple; /* as the packet writes it; kind OUT */
	__u16 l4_off;       /* bytes from the start of the frame */
	__u16 l3_len;       /* bytes, as one segment would have on the wire */
	__u8 l4;            /* enum l4 */
	__u8 tcp_flags;
	__u8 ttl;
	__u8 icmp_type;
	__u8 l4_len; /* of the transport's header, bytes; 0 where it does not matter */
	__u8 pad;
	__u16 mtu; /* with DROP_TOO_BIG: what fits, bytes of layer 3 */
};

/* Parsing results beside 0; a negative one is a drop reason. */
enum parse {
	PARSE_OK = 0,
	PARSE_SHORT = 1, /* the headers are not in the linear part yet */
};

/* Bytes pulled into the linear part when the headers are not: more than the
 * longest headers that are parsed. */
#define PACKET_HEADERS 256

struct cursor {
	struct __sk_buff *skb;
	__u32 off;
};

/* `size` bytes at the cursor, which moves past them; NULL when they are not in
 * the linear part. */
static __always_inline void *cursor_take(struct cursor *cursor, __u32 size)
{
	void *data = (void *)(long)cursor->skb->data;
	void *data_end = (void *)(long)cursor->skb->data_end;
	void *at;

	if (cursor->off > PACKET_HEADERS)
		return NULL;
	at = data + cursor->off;
	if (at + size > data_end)
		return NULL;
	cursor->off += size;
	return at;
}

/* Short because of the frame, or because of how the kernel keeps it? */
static __always_inline int packet_short(const struct __sk_buff *skb, __u32 end)
{
	return end > skb->len || end > PACKET_HEADERS ? -DROP_MALFORMED : PARSE_SHORT;
}

static __always_inline bool packet_has_ports(const struct packet *packet)
{
	return packet->l4 <= L4_SCTP;
}

static __always_inline bool packet_is_echo(const struct packet *packet)
{
	return packet->l4 == L4_ECHO_REQUEST || packet->l4 == L4_ECHO_REPLY;
}

/* Is it one that NAT translates on its way out? */
static __always_inline bool packet_is_carried(const struct packet *packet)
{
	return packet_has_ports(packet) || packet->l4 == L4_ECHO_REQUEST;
}

/* The tuple of the answer. */
static __always_inline void tuple_reverse(struct tuple *to, const struct tuple *from, __u8 kind)
{
	to->saddr = from->daddr;
	to->daddr = from->saddr;
	to->sport = from->dport;
	to->dport = from->sport;
	to->proto = from->proto;
	to->kind = kind;
	to->pad[0] = 0;
	to->pad[1] = 0;
}
