/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Services: one address in front of many backends.
 *
 * A frontend is looked up by a packet's destination; the SVC entry remembers which
 * backend the client's connection has. It licenses nothing else: the flow to the
 * backend is tracked like any other, and says by rev_nat_index whose answers its
 * answers are.
 */
#pragma once

#include "backend.h"
#include "conntrack.h"
#include "rewrite.h"
#include "service_count.h"

/* A packet to a service, and the backend that it goes to. */
struct service_hit {
	struct ip_addr frontend;
	struct ip_addr backend;
	__be16 frontend_port;
	__be16 backend_port;
	__u16 rev_nat_index;
	__u16 flags; /* enum service_flag */
	__u32 service_id;
	__u32 backend_id;
};

/* The row of an address whose ports are all a service's or nobody's. */
static __always_inline const struct service *service_find_address(const struct packet *packet)
{
	struct service_key key = { .addr = packet->tuple.daddr };

	return bpf_map_lookup_elem(&services, &key);
}

/* The frontend that a packet goes to. Services are TCP's and UDP's. */
static __always_inline const struct service *service_find(const struct packet *packet,
							  enum service_scope scope)
{
	struct service_key key = {
		.addr = packet->tuple.daddr,
		.port = packet->tuple.dport,
		.proto = packet->tuple.proto,
		.scope = scope,
	};

	return packet->l4 <= L4_UDP ? bpf_map_lookup_elem(&services, &key) : NULL;
}

/* A packet of a pod of this node; the answer is in `ask`. */
static __noinline bool service_asked_inside(struct service_ask *ask)
{
	const struct packet *packet = ask->packet;
	const struct service *service = service_find(packet, SERVICE_EXTERNAL);
	const struct service *inside;

	ask->scope = SERVICE_EXTERNAL;
	if (service && (service->flags & SERVICE_TWO_SCOPES)) {
		inside = service_find(packet, SERVICE_INTERNAL);
		if (inside) {
			service = inside;
			ask->scope = SERVICE_INTERNAL;
		}
	}
	ask->service = service ? service : service_find_address(packet);
	return ask->service;
}

/* A packet from the network. */
static __noinline bool service_asked_outside(struct service_ask *ask, bool node)
{
	const struct packet *packet = ask->packet;
	const struct service *service = service_find(packet, SERVICE_EXTERNAL);

	ask->scope = SERVICE_EXTERNAL;
	ask->service = service || node ? service : service_find_address(packet);
	return ask->service;
}

static __always_inline int service_refuse(const struct service_ask *ask, enum drop_reason reason)
{
	if (ask->service->id)
		service_count(ask->service->id, SERVICE_DROPS, reason);
	return -(int)reason;
}

/* Does the service let this client in? */
static __noinline bool service_admits(const struct service_ask *ask)
{
	struct source_range_key key = {
		.prefixlen = (sizeof(key.service_id) + sizeof(key.addr)) * 8,
		.service_id = bpf_htonl(ask->service->id),
		.addr = ask->packet->tuple.saddr,
	};

	return !(ask->service->flags & SERVICE_SOURCE_RANGES) ||
	       bpf_map_lookup_elem(&source_ranges, &key);
}

/* When a SVC entry expires now. It sees one side only, so nothing proves that a
 * connection was established. */
static __always_inline __u32 service_expiry(const struct packet *packet, __u16 flags, __u32 now)
{
	if (packet->l4 != L4_TCP)
		return now + config.timeout_service_any;
	if (flags & CT_TX_CLOSING)
		return now + config.timeout_service_close;
	return now +
	       (flags & CT_SEEN_NON_SYN ? config.timeout_service_tcp : config.timeout_tcp_syn);
}

/* What a segment makes of a SVC entry's flags. The client's FIN ends it for both
 * sides; a RST that the client contradicts was forged. */
static __always_inline __u16 service_flags(const struct ct_entry *entry, __u8 tcp_flags)
{
	__u16 flags = entry->flags;

	if (tcp_flags & (TCP_FIN | TCP_RST))
		flags |= CT_TX_CLOSING | CT_RX_CLOSING;
	else if (!(tcp_flags & TCP_SYN) && !(entry->tx_flags_seen & TCP_FIN))
		flags &= ~(CT_TX_CLOSING | CT_RX_CLOSING);
	return tcp_flags & TCP_SYN ? flags : flags | CT_SEEN_NON_SYN;
}

/* Advances a live SVC entry. True: a new connection begins in it. */
static __always_inline bool service_advance(struct __sk_buff *skb, struct ct_entry *entry,
					    const struct service_ask *ask)
{
	const struct packet *packet = ask->packet;
	bool reopens = packet->l4 == L4_TCP && tcp_reopens(entry, true, packet->tcp_flags);
	__u16 flags = entry->flags;
	__u32 expires;

	if (reopens) {
		flags = 0;
		entry->tx_flags_seen = 0;
		entry->packets = 0;
		entry->bytes = 0;
	} else if (packet->l4 == L4_TCP) {
		flags = service_flags(entry, packet->tcp_flags);
	}
	expires = service_expiry(packet, flags, ask->now);
	if (flags != entry->flags)
		entry->flags = flags;
	if (expires != entry->expires)
		WRITE_ONCE(entry->expires, expires);
	ct_report(entry, CT_TX, packet->tcp_flags, ask->now);
	ct_account(entry, skb);
	return reopens;
}

/* Takes an expired SVC entry, as ct_revive() does. */
static __always_inline bool service_takes(struct ct_entry *entry, __u32 now)
{
	__u32 expires = READ_ONCE(entry->expires);

	return expires && clock_expired(expires, now) &&
	       __sync_val_compare_and_swap(&entry->expires, expires, 0) == expires;
}

/* Records a connection that has no SVC entry yet, or an expired one. Where another CPU
 * does so, or deletes it, this one leaves it to that, or to the next packet. */
static __noinline int service_record(struct __sk_buff *skb, const struct service_ask *ask,
				     const struct tuple *key, struct ct_entry *entry, __u32 id)
{
	const struct packet *packet = ask->packet;
	long err;

	if (!entry || !service_takes(entry, ask->now)) {
		err = ct_insert(key, &ct_blank);
		if (err)
			return err == -EEXIST ? 0 : -DROP_CT_INSERT;
		entry = ct_lookup(key);
		if (!entry)
			return 0;
	}
	entry->src_identity = 0;
	ct_begin(entry, packet, CT_TX, ask->now);
	entry->backend_id = id;
	entry->rev_nat_index = ask->service->rev_nat_index;
	WRITE_ONCE(entry->expires, service_expiry(packet, entry->flags, ask->now));
	ct_account(entry, skb);
	return 0;
}

/* The backend of a live SVC entry, if it is believed and this packet may go there. */
static __always_inline const struct backend *service_keeps(const struct service_ask *ask,
							   const struct ct_entry *entry)
{
	const struct backend *backend;

	if (entry->rev_nat_index != ask->service->rev_nat_index)
		return NULL;
	backend = backend_find(ask, entry->backend_id);
	if (!backend || backend_takes(backend, ask))
		return backend;
	return tcp_opens(ask->packet->tcp_flags) ? NULL : backend;
}

static __always_inline int service_count_connection(const struct service_ask *ask, __u32 id)
{
	service_count(ask->service->id, SERVICE_CONNECTIONS, 0);
	return service_count(id, BACKEND_CONNECTIONS, 0);
}

/* Gives a connection another backend than its entry says, or its first. */
static __always_inline int service_move(struct __sk_buff *skb, const struct service_ask *ask,
					const struct tuple *key, struct ct_entry *entry, __u32 *id)
{
	const struct packet *packet = ask->packet;
	int drop;

	*id = backend_choose(ask);
	if (!*id || !backend_find(ask, *id))
		return service_refuse(ask, DROP_SERVICE_NO_BACKEND);
	if (!entry || clock_expired(entry->expires, ask->now)) {
		drop = service_record(skb, ask, key, entry, *id);
		if (drop)
			return drop;
	} else {
		WRITE_ONCE(entry->backend_id, *id);
		entry->rev_nat_index = ask->service->rev_nat_index;
		service_advance(skb, entry, ask);
	}
	if (packet->l4 != L4_TCP || tcp_opens(packet->tcp_flags))
		service_count_connection(ask, *id);
	if (ask->service->flags & SERVICE_AFFINITY)
		affinity_touch(ask, *id, true);
	return 0;
}

/* The backend of a packet to a service. 0 or a drop reason. */
static __noinline int service_connect(struct __sk_buff *skb, const struct service_ask *ask,
				      struct service_hit *hit)
{
	struct tuple key = ask->packet->tuple;
	const struct backend *backend = NULL;
	struct ct_entry *entry;
	__u32 id = 0;
	int drop;

	key.kind = KIND_SVC;
	entry = ct_lookup(&key);
	if (entry && !clock_expired(entry->expires, ask->now))
		backend = service_keeps(ask, entry);
	if (backend) {
		id = entry->backend_id;
		if (service_advance(skb, entry, ask))
			service_count_connection(ask, id);
		if (ask->service->flags & SERVICE_AFFINITY)
			affinity_touch(ask, id, false);
	} else {
		drop = service_move(skb, ask, &key, entry, &id);
		backend = drop ? NULL : backend_find(ask, id);
		if (!backend)
			return drop ? drop : -DROP_SERVICE_NO_BACKEND;
	}
	hit->frontend = key.daddr;
	hit->frontend_port = key.dport;
	hit->backend = backend->addr;
	hit->backend_port = backend->port;
	hit->rev_nat_index = ask->service->rev_nat_index;
	hit->flags = ask->service->flags;
	hit->service_id = ask->service->id;
	hit->backend_id = id;
	return 0;
}

/* Writes the backend as a packet's destination; the packet is the backend's from here. */
static __always_inline int service_translate(struct __sk_buff *skb, struct packet *packet,
					     const struct service_hit *hit)
{
	if (rewrite(skb, packet, REWRITE_DESTINATION, &hit->backend, hit->backend_port))
		return -DROP_REWRITE;
	packet->tuple.daddr = hit->backend;
	packet->tuple.dport = hit->backend_port;
	return 0;
}
