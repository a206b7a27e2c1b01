/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connection tracking at an endpoint. An entry licenses its flow to be called
 * known: ESTABLISHED for the opener's packets, REPLY for the others.
 *
 * The endpoint's own flow (OUT) is looked for before one that was opened
 * towards it (IN), so that a stray IN entry never exempts from masquerade what
 * the endpoint opened itself.
 */
#pragma once

#include "handoff.h"
#include "table.h"
#include "tcp_state.h"

/* SourceSecurityID of the world, in what a service's client opens. */
#define IDENTITY_WORLD     2

/* Seconds between two reports of a direction that shows nothing new. */
#define CT_REPORT_INTERVAL 5

/* What conntrack says of a packet. */
struct ct {
	struct tuple key;       /* of the entry found, or of the one to create */
	struct ct_entry *entry; /* NULL: there is none yet */
	struct handoff handoff;
	bool companion;      /* in: one goes with the flow */
	bool opener;         /* in: the opener's packet: no entry of the other side counts */
	bool unproven;       /* in: from outside even so: its RST proves nothing */
	bool hold;           /* in: what begins a connection stays unrecorded: whose is it? */
	__u16 flags;         /* in: enum ct_flag of a service's flow */
	__u16 rev_nat_index; /* in: the same; 0: of no service */
};

static __always_inline void ct_init(struct ct *ct, bool companion)
{
	ct->companion = companion;
	ct->opener = false;
	ct->unproven = false;
	ct->hold = false;
	ct->flags = 0;
	ct->rev_nat_index = 0;
}

/* Two calls instead of one with a variable map: each inlines its lookup. */
static __always_inline struct ct_entry *ct_lookup(const struct tuple *key)
{
	return key->proto == IPPROTO_TCP ? table_lookup(TABLE_CT_TCP, key) :
					   table_lookup(TABLE_CT_ANY, key);
}

static __always_inline long ct_insert(const struct tuple *key, const struct ct_entry *entry)
{
	return key->proto == IPPROTO_TCP ? table_insert(TABLE_CT_TCP, key, entry) :
					   table_insert(TABLE_CT_ANY, key, entry);
}

static __always_inline long ct_delete(const struct tuple *key)
{
	return key->proto == IPPROTO_TCP ? table_delete(TABLE_CT_TCP, key) :
					   table_delete(TABLE_CT_ANY, key);
}

static __always_inline enum nat_class ct_class(const struct tuple *key,
					       const struct ct_entry *entry)
{
	return key->proto == IPPROTO_TCP ? tcp_class(entry) : NAT_CLASS_ANY;
}

/* When a flow expires of which one packet is known. */
static __always_inline __u32 ct_first_expiry(const struct packet *packet, __u32 now)
{
	return now + (packet->l4 == L4_TCP ? config.timeout_tcp_syn : config.timeout_any);
}

/* The first packet of a connection, in an entry that is new, or was another's. */
static __always_inline void ct_begin(struct ct_entry *entry, const struct packet *packet,
				     enum ct_dir dir, __u32 now)
{
	bool tx = dir == CT_TX;

	entry->flags = packet->l4 == L4_TCP && !(packet->tcp_flags & TCP_SYN) ? CT_SEEN_NON_SYN : 0;
	entry->seen = tx ? CT_SEEN_TX : CT_SEEN_RX;
	entry->tx_flags_seen = tx ? packet->tcp_flags : 0;
	entry->rx_flags_seen = tx ? 0 : packet->tcp_flags;
	entry->last_tx_report = tx ? now : 0;
	entry->last_rx_report = tx ? 0 : now;
	entry->rev_nat_index = 0;
	entry->backend_id = 0;
	entry->packets = 0;
	entry->bytes = 0;
	WRITE_ONCE(entry->expires, ct_first_expiry(packet, now));
}

/* The same, read once by the verifier: where the stack has room for a call. */
__noinline int ct_open(struct ct_entry *entry, const struct packet *packet, enum ct_dir dir,
		       __u32 now)
{
	if (entry && packet)
		ct_begin(entry, packet, dir, now);
	return 0;
}

static __always_inline void ct_account(struct ct_entry *entry, const struct __sk_buff *skb)
{
	if (!config.accounting)
		return;
	__sync_fetch_and_add(&entry->packets, 1);
	__sync_fetch_and_add(&entry->bytes, skb->len - ETH_HLEN);
}

/* Shows the flow's TCP flags to user space: at once when there is a new one,
 * otherwise every 5 s. Says whether it did. */
static __always_inline bool ct_report(struct ct_entry *entry, enum ct_dir dir, __u8 tcp_flags,
				      __u32 now)
{
	__u8 *seen = dir == CT_TX ? &entry->tx_flags_seen : &entry->rx_flags_seen;
	__u32 *last = dir == CT_TX ? &entry->last_tx_report : &entry->last_rx_report;

	if ((*seen | tcp_flags) == *seen && *last + CT_REPORT_INTERVAL > now)
		return false;
	*seen |= tcp_flags;
	*last = now;
	return true;
}

/* Advances a live entry by one packet, and writes only what changes. */
static __always_inline bool ct_advance(struct ct_entry *entry, const struct packet *packet,
				       enum ct_dir dir, __u32 now)
{
	__u16 flags = entry->flags;
	__u8 seen = entry->seen;
	volatile __u16 next_flags;
	volatile __u8 next_seen;
	__u32 expires;

	if (packet->l4 == L4_TCP) {
		expires = tcp_advance(entry, dir, packet->tcp_flags, now, &flags, &seen);
		/* by way of the stack: what the verifier knows of them would have it follow
		 * each way out of tcp_advance() on alone */
		next_flags = flags;
		next_seen = seen;
		flags = next_flags;
		seen = next_seen;
	} else {
		seen |= dir == CT_TX ? CT_SEEN_TX : CT_SEEN_RX;
		expires = now + config.timeout_any;
	}
	if (expires != entry->expires)
		WRITE_ONCE(entry->expires, expires);
	if (flags != entry->flags)
		entry->flags = flags;
	if (seen != entry->seen)
		entry->seen = seen;
	return ct_report(entry, dir, packet->tcp_flags, now);
}

/* Inserted where a function's stack has no room for an entry; expired, so that nobody
 * believes it before it is filled. */
static const struct ct_entry ct_blank;

/* The companion of an address pair's flows, by which its ICMP errors are known.
 * It expires by itself. */
__noinline int ct_touch_companion(const struct tuple *flow, __u32 src_identity, __u16 rev_nat_index,
				  __u32 now)
{
	struct tuple key = { .proto = FAMILY_ICMP };
	struct ct_entry *entry;

	if (!flow)
		return 0;
	key.saddr = flow->saddr;
	key.daddr = flow->daddr;
	key.kind = flow->kind | KIND_RELATED;
	entry = table_lookup(TABLE_CT_ANY, &key);
	if (!entry) {
		table_insert(TABLE_CT_ANY, &key, &ct_blank);
		entry = table_lookup(TABLE_CT_ANY, &key);
		if (!entry)
			return 0;
		entry->src_identity = src_identity;
		entry->last_tx_report = now;
	}
	if (rev_nat_index && entry->rev_nat_index != rev_nat_index)
		entry->rev_nat_index = rev_nat_index;
	WRITE_ONCE(entry->expires, now + config.timeout_any);
	return 0;
}

/* The companion of a flow that has an entry. */
static __always_inline void ct_refresh_companion(const struct ct *ct, __u32 now)
{
	if (ct->companion)
		ct_touch_companion(&ct->key, ct->entry->src_identity, ct->rev_nat_index, now);
}

/* A service's flow says so in its entry, whatever it was before. */
static __always_inline void ct_stamp(struct ct *ct)
{
	struct ct_entry *entry = ct->entry;
	__u16 flags;

	ct->handoff.rev_nat_index = ct->rev_nat_index;
	ct->handoff.node_port = !!(ct->flags & CT_NODE_PORT);
	if (!entry)
		return;
	if (entry->rev_nat_index != ct->rev_nat_index)
		entry->rev_nat_index = ct->rev_nat_index;
	flags = entry->flags | ct->flags;
	/* the client has come to the same backend through a tunnel before */
	if (ct->flags & CT_NODE_PORT)
		flags &= ~CT_FROM_TUNNEL;
	if (entry->flags != flags) {
		entry->flags = flags;
		entry->looked = 0;
	}
}

/* What is said of a flow that has no entry yet. */
static __always_inline void ct_fill_handoff_new(struct handoff *handoff,
						const struct packet *packet, __u32 now)
{
	bool tcp = packet->l4 == L4_TCP;

	handoff->result = CT_NEW;
	handoff->nat_port = 0;
	handoff->fresh = !tcp || (packet->tcp_flags & TCP_SYN);
	handoff->deferred = 0;
	handoff->unmapped = 1;
	handoff->pod = 0;
	handoff->identity = 0;
	handoff->node_port = 0;
	handoff->answer = 0;
	handoff->rev_nat_index = 0;
	handoff->expires = ct_first_expiry(packet, now);
	handoff->class = tcp ? NAT_CLASS_SYN : NAT_CLASS_ANY;
}

/* What is said of a flow with an entry. Its word is taken for the port while its
 * halves were looked at in this second and nothing has changed its class since. */
static __always_inline void ct_fill_handoff(struct ct *ct, enum ct_result result, bool fresh,
					    __u32 now)
{
	ct->handoff.result = result;
	ct->handoff.fresh = fresh;
	ct->handoff.deferred = 0;
	ct->handoff.unmapped = result == CT_ESTABLISHED && !ct->entry->nat_port;
	ct->handoff.pod = 0;
	ct->handoff.identity = 0;
	ct->handoff.node_port = !!(ct->entry->flags & CT_NODE_PORT);
	ct->handoff.answer =
		!!(ct->entry->flags & (CT_NODE_PORT | CT_FROM_TUNNEL | CT_LB_LOOPBACK));
	ct->handoff.rev_nat_index = ct->entry->rev_nat_index;
	ct->handoff.expires = ct->entry->expires;
	ct->handoff.class = ct_class(&ct->key, ct->entry);
	ct->handoff.nat_port = 0;
	if (config.restore && result == CT_ESTABLISHED && ct->entry->nat_port &&
	    ct->entry->nat_looked == (__u16)now && ct->entry->nat_class == ct->handoff.class)
		ct->handoff.nat_port = ct->entry->nat_port;
}

/* Is what an IN entry calls an answer a packet of the endpoint's own flow, whose OUT
 * entry was lost? Its forward half knows; looked for once a second. */
__noinline bool ct_half_lives(const struct packet *packet, struct ct_entry *in, __u32 now)
{
	struct nat_entry *forward;
	struct tuple key;

	if (!packet || !in || !config.restore || in->nat_looked == (__u16)now)
		return false;
	key = packet->tuple;
	forward = table_lookup(TABLE_SNAT, &key);
	if (forward && !clock_expired(forward->expires, now))
		return true;
	in->nat_looked = now;
	return false;
}

/* Finds the live entry of a packet that its endpoint sent or received; nothing of its
 * state is touched. False: NEW, and key and entry (expired, or NULL) are what to
 * create or revive. What opens is no answer: no IN entry, which the world can
 * make with a packet of its own, exempts a SYN of the endpoint from masquerade. */
static __always_inline bool ct_find(struct ct *ct, const struct packet *packet, enum ct_dir dir,
				    __u32 now)
{
	struct ct_entry *own = NULL;

	if (dir == CT_TX)
		ct->key = packet->tuple;
	else
		tuple_reverse(&ct->key, &packet->tuple, KIND_OUT);
	if (dir == CT_TX || !ct->opener)
		own = ct->entry = ct_lookup(&ct->key);
	if (own && !clock_expired(own->expires, now)) {
		ct->handoff.result = dir == CT_TX ? CT_ESTABLISHED : CT_REPLY;
		return true;
	}

	if (dir == CT_TX) {
		tuple_reverse(&ct->key, &packet->tuple, KIND_IN);
	} else {
		ct->key = packet->tuple;
		ct->key.kind = KIND_IN;
	}
	ct->entry = dir == CT_TX && (ct->opener || tcp_opens(packet->tcp_flags)) ?
			    NULL :
			    ct_lookup(&ct->key);
	if (ct->entry && !clock_expired(ct->entry->expires, now) &&
	    !(dir == CT_TX && ct_half_lives(packet, ct->entry, now))) {
		ct->handoff.result = dir == CT_TX ? CT_REPLY : CT_ESTABLISHED;
		return true;
	}

	ct->handoff.result = CT_NEW;
	if (dir == CT_TX) {
		ct->key = packet->tuple;
		ct->entry = own;
	}
	return false;
}

/* Makes an expired entry that of a new connection. Of those who try, the collector
 * among them, the one that swaps `expires` for 0 has it. True also when another packet
 * has just done so; false: for this one it is gone. */
static __always_inline bool ct_revive(struct ct_entry *entry, const struct packet *packet,
				      enum ct_dir dir, __u32 now)
{
	__u32 expires = READ_ONCE(entry->expires);
	__u32 found = expires;

	if (expires && clock_expired(expires, now)) {
		found = __sync_val_compare_and_swap(&entry->expires, expires, 0);
		if (found == expires) {
			ct_open(entry, packet, dir, now);
			return true;
		}
	}
	return !clock_expired(found, now);
}

/* The conntrack stage. On NEW with entry NULL the caller creates it; with `hold` any
 * entry of NEW is as it was, and another call without does the rest. */
static __noinline int ct_track(struct __sk_buff *skb, const struct packet *packet, enum ct_dir dir,
			       __u32 now, struct ct *ct)
{
	bool opener, reopens;

	if (!ct_find(ct, packet, dir, now)) {
		ct_fill_handoff_new(&ct->handoff, packet, now);
		if (ct->entry && !ct->hold) {
			/* expired: nothing of the old connection counts */
			ct->handoff.fresh = 1;
			if (!ct_revive(ct->entry, packet, dir, now)) {
				ct->entry = NULL;
				return 0;
			}
			ct_refresh_companion(ct, now);
			ct_account(ct->entry, skb);
		}
		return 0;
	}

	opener = ct->handoff.result == CT_ESTABLISHED;
	reopens = packet->l4 == L4_TCP && tcp_reopens(ct->entry, opener, packet->tcp_flags);
	if (reopens && ct->hold) {
		ct_fill_handoff_new(&ct->handoff, packet, now);
		return 0;
	}
	ct_account(ct->entry, skb);
	if (reopens) {
		ct_open(ct->entry, packet, dir, now);
		ct_refresh_companion(ct, now);
		ct_fill_handoff(ct, CT_NEW, true, now);
		return 0;
	}
	if (ct->unproven && (packet->tcp_flags & TCP_RST))
		dir = CT_RX;
	if (ct_advance(ct->entry, packet, dir, now))
		ct_refresh_companion(ct, now);
	ct_fill_handoff(ct, ct->handoff.result, false, now);
	return 0;
}

/* Inserts a new entry. In its place another may stand that is claimed: who does it
 * needs no longer than this takes. One that stays so was copied in that moment, by a
 * resize, and is nobody's. 0, -EEXIST, or another errno. */
static __always_inline long ct_insert_new(const struct tuple *key, const struct ct_entry *entry)
{
	struct ct_entry *there;
	long err;

	for (int i = 0; i < CLAIM_TRIES; i++) {
		err = ct_insert(key, entry);
		if (err != -EEXIST)
			return err;
		there = ct_lookup(key);
		if (there && READ_ONCE(there->expires))
			return err;
	}
	if (there)
		*there = *entry;
	return err;
}

/* What a flow's new entry is to say besides its packet. */
struct ct_origin {
	struct ip_addr nat_addr;
	__be16 nat_port;
	__u16 flags; /* enum ct_flag, of a service's flow */
	__u16 rev_nat_index;
	__u8 companion;
	__u8 pad;
	__u32 src_identity;
};

/* Inserts the entry of a NEW flow. 0, or the errno of the insertion. */
__noinline int ct_write(struct __sk_buff *skb, const struct packet *packet,
			const struct tuple *flow, const struct ct_origin *origin, __u32 now)
{
	struct ct_entry entry = {};
	struct tuple key;
	bool sent;
	long err;

	if (!packet || !flow || !origin)
		return -ENOMEM;
	key = *flow;
	entry.nat_addr = origin->nat_addr;
	entry.nat_port = origin->nat_port;
	entry.src_identity = origin->src_identity;
	/* The kind says who sent it: an OUT entry made from a reply is the peer's. */
	sent = key.kind == KIND_OUT && ip_addr_equal(&key.saddr, &packet->tuple.saddr);
	ct_begin(&entry, packet, sent ? CT_TX : CT_RX, now);
	entry.flags |= origin->flags;
	entry.rev_nat_index = origin->rev_nat_index;
	if (config.accounting) {
		entry.packets = 1;
		entry.bytes = skb->len - ETH_HLEN;
	}
	err = ct_insert_new(&key, &entry);
	return err == -EEXIST ? 0 : err;
}

/* Records a NEW flow, and its companion. 0, or the errno of the insertion. */
static __always_inline long ct_create(struct __sk_buff *skb, const struct packet *packet,
				      const struct tuple *key, const struct ct_origin *origin,
				      __u32 now)
{
	long err = ct_write(skb, packet, key, origin, now);

	if (!err && origin->companion)
		ct_touch_companion(key, origin->src_identity, origin->rev_nat_index, now);
	return err;
}
