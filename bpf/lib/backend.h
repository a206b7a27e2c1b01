/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which backend takes a connection.
 *
 * The same packet finds the same backend as long as the table is the same: a SVC
 * entry that was lost costs nothing. Maglev's table is read with a hash that no
 * secret goes into, so that every node sends a client to the same backend.
 */
#pragma once

#include "clock.h"
#include "packet.h"
#include "port_alloc.h"
#include "../maps.h"

/* Who asks for which service. */
struct service_ask {
	const struct packet *packet;
	const struct service *service;
	__u32 scope; /* enum service_scope: which of its tables */
	__u32 now;
};

/* A backend of this service. Ids are used again; one that went to another is gone. */
static __always_inline const struct backend *backend_find(const struct service_ask *ask, __u32 id)
{
	const struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return backend && backend->service_id == ask->service->id ? backend : NULL;
}

/* Does it take new connections of those who ask like this? */
static __always_inline bool backend_takes(const struct backend *backend,
					  const struct service_ask *ask)
{
	__u32 mask = BACKEND_STATE | BACKEND_NOT_EXTERNAL << ask->scope;

	return (backend->state & mask) == BACKEND_ACTIVE;
}

/* By address and port; by address alone where a client is to stay with its backend. */
static __always_inline __u64 backend_client_hash(const struct service_ask *ask)
{
	const struct tuple *tuple = &ask->packet->tuple;
	const __u32 *words = (const __u32 *)&tuple->saddr;
	__u32 port = ask->service->flags & SERVICE_AFFINITY ? 0 : tuple->sport;
	__u64 hash = 0x9e3779b97f4a7c15ULL ^ port << 8 ^ tuple->proto;

	for (int i = 0; i < sizeof(tuple->saddr) / sizeof(*words); i++)
		hash = port_mix(hash ^ words[i]) + 0x9e3779b97f4a7c15ULL;
	return hash >> 16;
}

/* A backend id out of the service's table, or 0. */
static __noinline __u32 backend_draw(const struct service_ask *ask)
{
	struct backend_table_key key = { .service_id = ask->service->id, .scope = ask->scope };
	struct backend_table *table;
	__u32 zero = 0;
	__u32 slot;
	void *map;

	if (!ask->service->backends)
		return 0;
	map = bpf_map_lookup_elem(&backend_tables, &key);
	if (!map)
		return 0;
	table = bpf_map_lookup_elem(map, &zero);
	if (!table)
		return 0;
	if (ask->service->flags & SERVICE_RANDOM)
		slot = (port_hash(&ask->packet->tuple) >> 16) % BACKEND_TABLE_SIZE;
	else
		slot = backend_client_hash(ask) % BACKEND_TABLE_SIZE;
	/* the verifier does not follow a remainder, and clang knows that it is in range */
	barrier_var(slot);
	return slot < BACKEND_TABLE_SIZE ? table->backends[slot] : 0;
}

static __always_inline void affinity_key(struct affinity_key *key, const struct service_ask *ask)
{
	key->client = ask->packet->tuple.saddr;
	key->service_id = ask->service->id;
}

static __always_inline bool affinity_is_live(const struct affinity *known,
					     const struct service_ask *ask)
{
	return known && !clock_expired(known->last_used + ask->service->affinity_timeout, ask->now);
}

/* The backend that the client stays with, or 0. */
static __noinline __u32 affinity_find(const struct service_ask *ask)
{
	const struct backend *backend;
	struct affinity_key key;
	struct affinity *known;
	__u32 id;

	affinity_key(&key, ask);
	known = bpf_map_lookup_elem(&affinity, &key);
	if (!affinity_is_live(known, ask))
		return 0;
	id = known->backend_id;
	backend = backend_find(ask, id);
	return backend && backend_takes(backend, ask) ? id : 0;
}

/* The client has a connection to this backend. One that is older than its affinity
 * does not change it. */
static __noinline int affinity_touch(const struct service_ask *ask, __u32 id, bool chosen)
{
	struct affinity fresh = { .backend_id = id, .last_used = ask->now };
	struct affinity_key key;
	struct affinity *known;

	affinity_key(&key, ask);
	known = bpf_map_lookup_elem(&affinity, &key);
	if (known && known->backend_id == id) {
		if (known->last_used != ask->now)
			WRITE_ONCE(known->last_used, ask->now);
		return 0;
	}
	if (chosen || !affinity_is_live(known, ask))
		bpf_map_update_elem(&affinity, &key, &fresh, BPF_ANY);
	return 0;
}

/* Whom a new connection goes to, or 0. */
static __always_inline __u32 backend_choose(const struct service_ask *ask)
{
	bool stays = ask->service->flags & SERVICE_AFFINITY;
	__u32 id = stays ? affinity_find(ask) : 0;

	return id ? id : backend_draw(ask);
}
