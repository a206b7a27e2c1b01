/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract with user space: every struct and enum it reads or writes.
 *
 * TypeScript's view of this file is generated from BTF (`make generate`), so a
 * name, a width or an offset is written down here and nowhere else. The byte
 * order is in the type: __be16 and __be32 are network order, the rest is the
 * host's. Times are seconds of the datapath's clock (lib/clock.h).
 */
#pragma once

#include "lib/compiler.h"

#ifndef FAMILY_HEADER
#error "compile with -include bpf/family/ipv4.h or ipv6.h"
#endif

/* Which side a tuple was recorded for. Numbers are published; RELATED is a bit
 * on top of OUT or IN. */
enum kind {
	KIND_OUT = 0,
	KIND_IN = 1,
	KIND_RELATED = 2,
	KIND_SVC = 4,
};

/* The key of every connection table, in natural orientation: as the packet that
 * opened the flow wrote it. ICMP echo keeps its identifier in sport (request)
 * or dport (reply) with 0 on the other side. The CT OUT key of a flow is its
 * forward NAT key. */
struct tuple {
	struct ip_addr saddr;
	struct ip_addr daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 kind; /* enum kind */
	__u8 pad[2];
};
_Static_assert(sizeof(struct tuple) == 2 * sizeof(struct ip_addr) + 8, "tuple has holes");
_Static_assert(sizeof(struct tuple) % 4 == 0, "the kernel's fast hash wants multiples of 4");

/* Tables of connections, each behind a two-slot array of maps. */
enum table {
	TABLE_CT_TCP = 0,
	TABLE_CT_ANY = 1,
	TABLE_SNAT = 2,
	TABLE_COUNT = 3,
};

enum table_slot {
	TABLE_CURRENT = 0,
	TABLE_PREVIOUS = 1, /* set only while a table is being resized */
	TABLE_SLOTS = 2,
};

/* Printed by `ct list`; positions are published. */
enum ct_flag {
	CT_RX_CLOSING = 0x0001,
	CT_TX_CLOSING = 0x0002,
	CT_LB_LOOPBACK = 0x0008,
	CT_SEEN_NON_SYN = 0x0010,
	CT_NODE_PORT = 0x0020,
	CT_PROXY_REDIRECT = 0x0040,
	CT_DSR_INTERNAL = 0x0080,
	CT_FROM_L7LB = 0x0100,
	CT_FROM_TUNNEL = 0x0400,
};

/* What the entry has witnessed; both directions make it established. */
enum ct_seen {
	CT_SEEN_TX = 0x01, /* a packet that the endpoint sent */
	CT_SEEN_RX = 0x02, /* a packet that the endpoint received */
	CT_SEEN_BOTH = 0x03,
	CT_RX_RESET = 0x04, /* an unproven RST from outside cut the lifetime */
};

struct ct_entry {
	__u32 expires;        /* s; at or before now: the entry is a miss; 0: claimed */
	__u32 last_tx_report; /* s */
	__u32 last_rx_report; /* s */
	__u16 flags;          /* enum ct_flag */
	__u8 tx_flags_seen;   /* TCP flag bytes, OR-ed, as reported */
	__u8 rx_flags_seen;
	struct ip_addr nat_addr; /* translated source of a masqueraded flow */
	struct ip_addr next_hop; /* of its last packet that asked for the route, */
	__be16 nat_port;         /* 0 with nat_addr 0: not translated */
	__u8 seen;               /* enum ct_seen */
	__u8 nat_class;          /* enum nat_class, when its halves were last looked at */
	__u16 rev_nat_index;
	__u16 nat_looked; /* s, low 16 bits: when that was; of an IN entry: when for none */
	__u32 src_identity;
	__u32 backend_id;
	__u32 next_ifindex; /* and the device; 0: only the stack can tell */
	__u32 looked;       /* s: when services, or a service flow's other entry, were last asked */
	__u64 packets;      /* with conntrack.accounting only */
	__u64 bytes;
};

/* What a NAT entry's flow was last known to be; a restore copies it. */
enum nat_class {
	NAT_CLASS_SYN = 0,
	NAT_CLASS_ESTABLISHED = 1,
	NAT_CLASS_CLOSING = 2,
	NAT_CLASS_ANY = 3,
};

enum nat_flag {
	NAT_NEEDS_CT = 0x01,  /* the node's own flow, translated because a pod held its port */
	NAT_NODE_PORT = 0x02, /* a client's flow to a service, with a backend on another node */
};

/* Forward entry (kind OUT): the source to write. Reverse entry (kind IN): the
 * destination to write. */
struct nat_entry {
	struct ip_addr addr;
	__be16 port;
	__u8 class;    /* enum nat_class */
	__u8 flags;    /* enum nat_flag */
	__u32 expires; /* s; 0: claimed, by who takes it over or deletes it */
	__u32 created; /* s */
	__u16 rev_nat_index;
	__u16 touched; /* s, low 16 bits: when its partner was last looked at */
};

enum endpoint_flag {
	ENDPOINT_HOST = 0x01, /* an address of the node itself: no interface behind it */
	ENDPOINT_PEER = 0x02, /* the interface has a peer in another namespace (veth, netkit) */
};

/* `endpoints`: struct ip_addr -> struct endpoint. */
struct endpoint {
	__u32 ifindex; /* host side of the pod's link */
	__u32 id;
	__u32 identity; /* SourceSecurityID in listings */
	__u32 flags;    /* enum endpoint_flag */
	__u32 mtu;      /* of the interface, bytes of layer 3; 0: not checked */
};

/* `prefixes` (LPM): a row carries the flags of the prefixes around it as well,
 * since a lookup sees the longest one only. */
struct prefix_key {
	__u32 prefixlen; /* bits of addr */
	struct ip_addr addr;
};

enum prefix_flag {
	PREFIX_NO_MASQUERADE = 0x01, /* leaves as it is: excluded, or another node or its pods */
	PREFIX_LOCAL_PODS = 0x02,    /* node.podCIDRs: never leaves bare */
};

struct prefix {
	__u32 identity;
	__u32 flags;   /* enum prefix_flag */
	__be32 tunnel; /* IPv4 address of the node that has it; 0: none, or this one */
};

enum device_flag {
	DEVICE_HAS_ADDRESS = 0x01, /* addr is usable */
};

/* `devices`: ifindex (__u32) -> struct device. What leaves here leaves as addr. */
struct device {
	struct ip_addr addr;
	__u16 port_min; /* host order, inclusive */
	__u16 port_max;
	__u32 flags;        /* enum device_flag */
	__be32 tunnel_addr; /* its IPv4 address, in both families; 0: none */
};

/* `nat_full`: struct tuple {egress address, remote address, 0, remote port, proto, 0}. */
struct nat_full {
	__u32 until;         /* s; new flows are refused before it */
	__u32 scanned_until; /* s; ports beyond the hashed probes may be in use */
};

/* Who asks for a service: policies can give the two different backends. */
enum service_scope {
	SERVICE_EXTERNAL = 0, /* the network; everybody, where the policies agree */
	SERVICE_INTERNAL = 1, /* a pod of this node */
};

/* `services`. Port and protocol 0: any port of a service address that has no row. */
struct service_key {
	struct ip_addr addr;
	__be16 port;
	__u8 proto;
	__u8 scope; /* enum service_scope */
};

enum service_flag {
	SERVICE_FROM_OUTSIDE = 0x01, /* the network may use it: not a cluster address */
	SERVICE_AFFINITY = 0x02,
	SERVICE_SOURCE_RANGES = 0x04,
	SERVICE_DSR = 0x08,
	SERVICE_RANDOM = 0x10,     /* else Maglev */
	SERVICE_TWO_SCOPES = 0x20, /* pods look again, with SERVICE_INTERNAL */
	SERVICE_ANY_PORT = 0x40,   /* a service address, but no service on this port */
};

/* A frontend. Its service's other frontends have the same id. */
struct service {
	__u32 id;
	__u32 backends;         /* how many stand in its table; 0: nobody takes new connections */
	__u32 affinity_timeout; /* s */
	__u16 rev_nat_index;    /* of this frontend; 0: none */
	__u16 flags;            /* enum service_flag */
};

enum backend_state {
	BACKEND_ACTIVE = 0,
	BACKEND_TERMINATING = 1, /* keeps what it has */
	BACKEND_QUARANTINED = 2,
	BACKEND_MAINTENANCE = 3,
};

/* Beside the state: its weight, or a policy, keeps it from those who ask with a scope. */
enum backend_mask {
	BACKEND_STATE = 0x0f,        /* enum backend_state */
	BACKEND_NOT_EXTERNAL = 0x10, /* << enum service_scope */
	BACKEND_NOT_INTERNAL = 0x20,
};

/* `backends`: backend id (__u32, from 1) -> struct backend. A service's own: two
 * services with the same pod have two. */
struct backend {
	struct ip_addr addr;
	__be16 port;
	__u8 proto;
	__u8 state; /* enum backend_state, enum backend_mask */
	__u32 service_id;
};

/* `backend_addresses`: -> __u32, how many backends there are at this address. */
struct backend_address {
	struct ip_addr addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

/* `backend_tables`: -> an array of one struct backend_table, replaced as a whole. A
 * backend stands in it in proportion to its weight; who may not be chosen does not. */
struct backend_table_key {
	__u32 service_id;
	__u32 scope; /* enum service_scope */
};

enum backend_table_size {
	BACKEND_TABLE_SIZE = 16381, /* Maglev's M: a prime */
};

struct backend_table {
	__u32 backends[BACKEND_TABLE_SIZE];
};

/* `rev_nat`: rev_nat_index (__u32) -> what a service's answers come from. */
struct rev_nat {
	struct ip_addr addr;
	__be16 port;
	__u16 pad;
	__u32 service_id;
};

/* `affinity`. */
struct affinity_key {
	struct ip_addr client;
	__u32 service_id;
};

struct affinity {
	__u32 backend_id;
	__u32 last_used; /* s */
};

/* `source_ranges` (LPM) -> __u32. prefixlen counts the bits of service_id too. */
struct source_range_key {
	__u32 prefixlen;
	__u32 service_id; /* network order: bits are compared from the left */
	struct ip_addr addr;
};

/* `service_counts` (per CPU, __u64): made by the first packet that is counted. */
struct service_count_key {
	__u32 id;   /* of a service, or of a backend */
	__u16 kind; /* enum service_count */
	__u16 reason;
};

enum service_count {
	SERVICE_CONNECTIONS = 0, /* new connections of a service */
	SERVICE_DROPS = 1,       /* its drops, by reason (enum drop_reason) */
	BACKEND_CONNECTIONS = 2, /* new connections of a backend */
};

enum hook {
	HOOK_FROM_ENDPOINT = 0,
	HOOK_TO_ENDPOINT = 1,
	HOOK_FROM_NETDEV = 2,
	HOOK_TO_NETDEV = 3,
	HOOK_COUNT = 4,
};

/* How a packet left a hook. */
enum verdict {
	VERDICT_PASS = 0,    /* to the next program, then the kernel */
	VERDICT_DELIVER = 1, /* redirected into a local endpoint */
	VERDICT_FORWARD = 2, /* redirected to a next hop */
	VERDICT_DROP = 3,
	VERDICT_COUNT = 4,
};

/* The only list of drop reasons; docs/drop-reasons.md explains each. */
enum drop_reason {
	DROP_NONE = 0,
	DROP_MALFORMED = 1,
	DROP_EXTENSION_HEADERS = 2,
	DROP_INVALID_SOURCE = 3,
	DROP_UNKNOWN_SOURCE = 4,
	DROP_SPOOFED_SOURCE = 5,
	DROP_CT_INSERT = 6,
	DROP_NAT_INSERT = 7,
	DROP_NAT_NO_PORT = 8,
	DROP_NAT_FULL = 9,
	DROP_NO_EGRESS_ADDRESS = 10,
	DROP_HALF_LOST = 11,
	DROP_ICMP_UNSUPPORTED = 12,
	DROP_FRAGMENT_UNSUPPORTED = 13,
	DROP_PROTOCOL_UNSUPPORTED = 14,
	DROP_REWRITE = 15,
	DROP_SERVICE_NO_BACKEND = 16,
	DROP_SERVICE_UNKNOWN_PORT = 17,
	DROP_SERVICE_STATE_LOST = 18,
	DROP_SERVICE_SOURCE_RANGE = 19,
	DROP_SERVICE_NOT_EXTERNAL = 20,
	DROP_TUNNEL_SOURCE = 21,
	DROP_TUNNEL_MALFORMED = 22,
	DROP_TUNNEL_NO_NODE = 23,
	DROP_TOO_BIG = 24,
	DROP_REASON_COUNT = 32, /* a power of two */
};

/* Which record a packet brought back. */
enum restored {
	RESTORED_FORWARD = 0,
	RESTORED_REVERSE = 1,
	RESTORED_ADOPTED = 2,
	RESTORED_COUNT = 3,
};

/* A failed map update, by errno. */
enum update_error {
	UPDATE_EBUSY = 0,
	UPDATE_ENOMEM = 1,
	UPDATE_E2BIG = 2,
	UPDATE_EDEADLK = 3, /* what EBUSY was before 6.15 */
	UPDATE_ETIMEDOUT = 4,
	UPDATE_OTHER = 5,
	UPDATE_ERROR_COUNT = 6,
};

enum nat_probe {
	NAT_PROBES = 32,          /* keyed, independent candidates */
	NAT_SCAN = 1024,          /* then a walk across the range */
	NAT_ATTEMPT_SCANNED = 32, /* histogram slot of ports found by the scan */
	NAT_ATTEMPT_FAILED = 33,
	NAT_ATTEMPT_SLOTS = 34,
};

/* What the agent hears of without waiting for its next pass. */
enum event_type {
	EVENT_NAT_PRESSURE = 0, /* a port was found late, or not at all */
	EVENT_TABLE_FILL = 1,   /* a CPU has added config.fill_step entries to a table */
	EVENT_HALF_LOST = 2,    /* the node's answer to a reply without a mapping was held back */
	EVENT_COUNT = 3,
};

/* A record of `events`. */
struct event {
	__u32 type;  /* enum event_type */
	__u32 table; /* enum table, of EVENT_TABLE_FILL; else 0 */
};

/* Index into `counters` (per CPU, __u64): a base plus an offset inside it. */
enum counter {
	COUNTER_PACKETS = 0,         /* + hook * VERDICT_COUNT + verdict */
	COUNTER_DROPS = 16,          /* + hook * DROP_REASON_COUNT + reason */
	COUNTER_CREATED = 144,       /* + table */
	COUNTER_DELETED = 147,       /* + table */
	COUNTER_RESTORED = 150,      /* + restored */
	COUNTER_UPDATE_ERRORS = 153, /* + table * UPDATE_ERROR_COUNT + update_error */
	COUNTER_NAT_ATTEMPTS = 171,  /* + attempts used, 0 .. NAT_ATTEMPT_FAILED */
	COUNTER_EVENTS_LOST = 205,
	COUNTER_COUNT = 206,
};
_Static_assert(COUNTER_DROPS == HOOK_COUNT * VERDICT_COUNT, "counters overlap");
_Static_assert(COUNTER_CREATED == COUNTER_DROPS + HOOK_COUNT * DROP_REASON_COUNT,
	       "counters overlap");
_Static_assert(COUNTER_DELETED == COUNTER_CREATED + TABLE_COUNT, "counters overlap");
_Static_assert(COUNTER_RESTORED == COUNTER_DELETED + TABLE_COUNT, "counters overlap");
_Static_assert(COUNTER_UPDATE_ERRORS == COUNTER_RESTORED + RESTORED_COUNT, "counters overlap");
_Static_assert(COUNTER_NAT_ATTEMPTS == COUNTER_UPDATE_ERRORS + TABLE_COUNT * UPDATE_ERROR_COUNT,
	       "counters overlap");
_Static_assert(COUNTER_EVENTS_LOST == COUNTER_NAT_ATTEMPTS + NAT_ATTEMPT_SLOTS, "counters overlap");
_Static_assert(COUNTER_COUNT == COUNTER_EVENTS_LOST + 1, "counters overlap");

/* `node` (one element, shared by both families, kept for the life of the pins). */
struct node_state {
	__u64 secret[2];      /* key of the port sequence; drawn once */
	__s64 clock_delta_ns; /* datapath clock minus CLOCK_MONOTONIC */
	__u32 hz;             /* jiffies per second */
	__u32 pad;
};

/* `family_state` (one element each). */
struct family_state {
	__u32 node_translated; /* not 0: some flow of the node itself has NAT entries */
	__u32 pressure_told;   /* s; when EVENT_NAT_PRESSURE was last sent */
	__u32 loss_told;       /* s; the same of EVENT_HALF_LOST */
	__u32 errors_second;   /* s; in which ICMP errors were last sent, */
	__u32 errors_sent;     /* and how many */
};

/* Load-time settings: .rodata of every program, folded by the verifier. */
struct config {
	__u64 secret[2];
	__u32 hz;
	__u32 timeout_tcp; /* s, all */
	__u32 timeout_tcp_syn;
	__u32 timeout_tcp_close;
	__u32 timeout_any;
	__u32 timeout_service_tcp;
	__u32 timeout_service_any;
	__u32 timeout_service_close;
	__u32 fill_step; /* a power of two; 0: EVENT_TABLE_FILL is never sent */
	__u8 masquerade;
	__u8 restore;
	__u8 fast_routing;
	__u8 accounting;
	__u8 fib_skip_neigh; /* BPF_FIB_LOOKUP_SKIP_NEIGH, 6.3+ */
	__u8 csum_ipv6;      /* BPF_F_IPV6 of bpf_l4_csum_replace, 6.16+ */
	__u8 interruptible;  /* a packet's program may run in between: counts are atomic */
	__u8 pad[5];
};

/* `reap` programs: ctx of BPF_PROG_TYPE_SYSCALL, results written back. Keys are
 * struct tuple in `reap_keys` (mmapable), REAP_BATCH of them. */
enum reap_limit {
	REAP_BATCH = 4096,
};

enum reap_mode {
	REAP_EXPIRED = 0,  /* deletes what has expired, and what of its NAT pair has */
	REAP_FORCED = 1,   /* deletes live entries too, and their pair */
	REAP_LEAVING = 2,  /* the same for the flows of an endpoint that goes: what closes rests */
	REAP_RELIEF = 3,   /* deletes live entries of some classes, marks the others as used */
	REAP_COMPLETE = 4, /* brings back what a live half, or a live connection, has lost */
	REAP_CLAIMED = 5,  /* deletes what was claimed when it was read, and is still */
};

/* What a connection is worth when there is no room for all. */
enum flow_class {
	FLOW_CLOSING = 0,
	FLOW_HALF_OPEN = 1,  /* TCP of which one side was seen */
	FLOW_UNANSWERED = 2, /* the same of other protocols */
	FLOW_ANSWERED = 3,
	FLOW_OPENING = 4, /* TCP that was answered, not established yet */
	FLOW_ESTABLISHED = 5,
};

struct reap_args {
	__u32 table;       /* in: enum table */
	__u32 count;       /* in: keys in reap_keys */
	__u32 mode;        /* in: enum reap_mode */
	__u32 classes;     /* in, relief: bits of enum flow_class; in snat, of the owners */
	__u32 orphans;     /* in, relief of snat: bits of enum nat_class, where there is no owner */
	__u32 idle_until;  /* in, relief: FLOW_ANSWERED goes when it expires by then, s */
	__u32 now;         /* out: s */
	__u32 deleted;     /* out: keys deleted from `table` */
	__u32 skipped;     /* out: alive again, gone already, or not to be touched */
	__u32 nat_deleted; /* out: NAT entries deleted along with their partner or their CT entry */
	__u32 failed;      /* out: what the kernel refused */
	__u32 completed;   /* out: halves, or connections, whose missing halves were brought back */
};

/* `copy` program, the same way: keys of the previous table in `copy_keys`. */
enum copy_limit {
	COPY_BATCH = 4096,
};

struct copy_args {
	__u32 table;   /* in: enum table */
	__u32 count;   /* in: keys in copy_keys */
	__u32 copied;  /* out: entries that the current table has now */
	__u32 skipped; /* out: there already, or deleted */
	__u32 failed;  /* out: insertions the kernel refused */
};

/* `read_clock`: both clocks at one instant. */
struct clock_sample {
	__u64 jiffies;
	__u64 monotonic_ns;
};
