/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an ingress program tells to_netdev about the packet, in skb->cb: what
 * conntrack knows of it, or that it leaves as the node already.
 *
 * cb survives bpf_redirect_neigh, and veths as well: a pod may have written it.
 * So every ingress program overwrites it, and the reader wants the magic and an
 * ingress_ifindex. The kernel's own forwarding clears cb[0]. It is good for one
 * reader: a second device below the first (a VLAN's, a bond's) finds nothing.
 */
#pragma once

#include "../config.h"

enum ct_result {
	CT_NEW = 0,         /* the endpoint's or the peer's first packet, or nobody knows */
	CT_ESTABLISHED = 1, /* the opener's side of a known flow */
	CT_REPLY = 2,       /* the other side: exempt from masquerade */
};

struct handoff {
	__u32 expires;   /* of the CT entry, s */
	__u8 result;     /* enum ct_result */
	__u8 class;      /* enum nat_class */
	__u8 fresh;      /* a new connection begins with this packet */
	__u8 deferred;   /* the CT entry is still to be created */
	__u8 unmapped;   /* the CT entry does not know the port */
	__u8 pod;        /* a pod sent it, not the node; never in cb */
	__be16 nat_port; /* to leave with, for this second; 0: look for the halves; never in cb */
	__u32 identity;  /* of the pod */
	__u16 rev_nat_index; /* of a service's flow */
	__u8 node_port;      /* a client's flow to a service */
	__u8 answer;         /* a backend's answer, to leave as the frontend; never in cb */
};

/* skb->tc_index: conntrack has seen this packet, on its way through the stack. */
enum tracked {
	TRACKED_BY_NETDEV = 1,
	TRACKED_SERVICE = 2, /* of a service's flow, whose source is still to be translated */
	TRACKED_ANSWER = 3,  /* the same, of an answer that leaves the node */
};

/* Changes with what the words mean, so that no other version's reader believes them. */
#define HANDOFF_FORMAT 4

static __always_inline __u32 handoff_magic(void)
{
	return ((__u32)config.secret[0] & ~0xff) | HANDOFF_FORMAT;
}

static __always_inline void handoff_clear(struct __sk_buff *skb)
{
	CTX_STORE(skb, cb[0], 0);
	CTX_STORE(skb, tc_index, 0);
}

/* Nothing of ours enters a pod. */
static __always_inline void handoff_scrub(struct __sk_buff *skb)
{
	CTX_STORE(skb, cb[0], 0);
	CTX_STORE(skb, cb[1], 0);
	CTX_STORE(skb, cb[2], 0);
	CTX_STORE(skb, cb[3], 0);
	CTX_STORE(skb, cb[4], 0);
	CTX_STORE(skb, mark, 0);
	CTX_STORE(skb, tc_index, 0);
}

/* `identity`: of the endpoint that sends. */
static __always_inline void handoff_write(struct __sk_buff *skb, const struct handoff *handoff,
					  __u32 identity)
{
	CTX_STORE(skb, cb[0], handoff_magic());
	CTX_STORE(skb, cb[1],
		  handoff->result | handoff->class << 2 | handoff->fresh << 4 |
			  handoff->deferred << 5 | handoff->node_port << 6 |
			  handoff->unmapped << 7 | handoff->rev_nat_index << 16);
	CTX_STORE(skb, cb[2], handoff->expires);
	CTX_STORE(skb, cb[3], identity);
}

/* In the place of the results: the packet has been translated. */
#define HANDOFF_TRANSLATED 0xffffffff

static __always_inline void handoff_write_translated(struct __sk_buff *skb)
{
	CTX_STORE(skb, cb[0], handoff_magic());
	CTX_STORE(skb, cb[1], HANDOFF_TRANSLATED);
}

static __always_inline bool handoff_is_there(const struct __sk_buff *skb)
{
	return CTX_LOAD(skb, cb[0]) == handoff_magic() && CTX_LOAD(skb, ingress_ifindex);
}

static __always_inline bool handoff_take_translated(struct __sk_buff *skb)
{
	if (!handoff_is_there(skb) || CTX_LOAD(skb, cb[1]) != HANDOFF_TRANSLATED)
		return false;
	CTX_STORE(skb, cb[0], 0);
	return true;
}

static __always_inline bool handoff_take(struct __sk_buff *skb, struct handoff *handoff)
{
	__u32 word;

	if (!handoff_is_there(skb))
		return false;
	word = CTX_LOAD(skb, cb[1]);
	handoff->result = word & 3;
	handoff->class = word >> 2 & 3;
	handoff->fresh = word >> 4 & 1;
	handoff->deferred = word >> 5 & 1;
	handoff->node_port = word >> 6 & 1;
	handoff->unmapped = word >> 7 & 1;
	handoff->rev_nat_index = word >> 16;
	handoff->expires = CTX_LOAD(skb, cb[2]);
	handoff->pod = 1;
	handoff->identity = CTX_LOAD(skb, cb[3]);
	CTX_STORE(skb, cb[0], 0);
	return true;
}
