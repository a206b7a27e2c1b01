/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map of one family's datapath. Sizes given here are placeholders where
 * the agent sets them at load. */
#pragma once

#include "abi.h"

/* Connections: TCP, everything else, and NAT. The table itself... */
struct ct_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct tuple);
	__type(value, struct ct_entry);
};

struct nat_table {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct tuple);
	__type(value, struct nat_entry);
};

struct ct_table ct_tcp SEC(".maps");
struct ct_table ct_any SEC(".maps");
struct nat_table snat SEC(".maps");

/* ...and {current, previous}, through which programs reach it: one update
 * replaces it for every program on every interface. */
struct ct_table_slots {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TABLE_SLOTS);
	__type(key, __u32);
	__array(values, struct ct_table);
};

struct nat_table_slots {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TABLE_SLOTS);
	__type(key, __u32);
	__array(values, struct nat_table);
};

struct ct_table_slots ct_tcp_maps SEC(".maps") = { .values = { &ct_tcp } };
struct ct_table_slots ct_any_maps SEC(".maps") = { .values = { &ct_any } };
struct nat_table_slots snat_maps SEC(".maps") = { .values = { &snat } };

/* Address -> who has it here: a pod behind an interface, or the node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct ip_addr);
	__type(value, struct endpoint);
} endpoints SEC(".maps");

/* Prefix -> what is never masqueraded, what never leaves bare. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix_key);
	__type(value, struct prefix);
} prefixes SEC(".maps");

/* ifindex -> what leaves here leaves as whom. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps");

/* Services: where a client connects to, and who answers there. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service_key);
	__type(value, struct service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct backend);
} backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct backend_address);
	__type(value, __u32);
} backend_addresses SEC(".maps");

struct backend_table_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__uint(value_size, sizeof(struct backend_table)); /* in BTF only where a program uses it */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 131072);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct backend_table_key);
	__array(values, struct backend_table_map);
} backend_tables SEC(".maps");

/* rev_nat_index -> the frontend that answers come from. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct rev_nat);
} rev_nat SEC(".maps");

/* Client and service -> the backend that it stays with. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct affinity_key);
	__type(value, struct affinity);
} affinity SEC(".maps");

/* Clients that a service lets in. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source_range_key);
	__type(value, __u32);
} source_ranges SEC(".maps");

/* Connections and drops, by service and by backend. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 524288);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service_count_key);
	__type(value, __u64);
} service_counts SEC(".maps");

/* IPv4 addresses of the other nodes: whose tunnelled packets are unpacked. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __be32);
	__type(value, __u32);
} tunnel_peers SEC(".maps");

/* Destinations without a free port, so that refusing costs one lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct tuple);
	__type(value, struct nat_full);
} nat_full SEC(".maps");

/* Every event and every drop, enum counter. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTER_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* What the agent hears of at once, struct event. Nobody waits for a reader: what
 * finds it full is lost, and counted. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536); /* bytes */
} events SEC(".maps");

/* What programs remember about themselves, past their own replacement. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct family_state);
} family_state SEC(".maps");
