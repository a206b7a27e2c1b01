/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Never loaded: the compiler describes in BTF what a global uses, and from that
 * description TypeScript's view of abi.h is generated. Every struct and enum of
 * abi.h is listed here; a unit test holds the two lists against each other. */
#include "abi.h"

struct {
	struct tuple tuple;
	struct ct_entry ct_entry;
	struct nat_entry nat_entry;
	struct endpoint endpoint;
	struct prefix_key prefix_key;
	struct prefix prefix;
	struct device device;
	struct nat_full nat_full;
	struct service_key service_key;
	struct service service;
	struct backend backend;
	struct backend_address backend_address;
	struct backend_table_key backend_table_key;
	struct backend_table backend_table;
	struct rev_nat rev_nat;
	struct affinity_key affinity_key;
	struct affinity affinity;
	struct source_range_key source_range_key;
	struct service_count_key service_count_key;
	struct node_state node_state;
	struct family_state family_state;
	struct event event;
	struct config config;
	struct reap_args reap_args;
	struct copy_args copy_args;
	struct clock_sample clock_sample;

	enum kind kind;
	enum table table;
	enum table_slot table_slot;
	enum ct_flag ct_flag;
	enum ct_seen ct_seen;
	enum nat_class nat_class;
	enum nat_flag nat_flag;
	enum endpoint_flag endpoint_flag;
	enum prefix_flag prefix_flag;
	enum device_flag device_flag;
	enum service_scope service_scope;
	enum service_flag service_flag;
	enum backend_state backend_state;
	enum backend_mask backend_mask;
	enum backend_table_size backend_table_size;
	enum service_count service_count;
	enum hook hook;
	enum verdict verdict;
	enum drop_reason drop_reason;
	enum restored restored;
	enum update_error update_error;
	enum nat_probe nat_probe;
	enum event_type event_type;
	enum counter counter;
	enum reap_limit reap_limit;
	enum copy_limit copy_limit;
	enum reap_mode reap_mode;
	enum flow_class flow_class;
} abi;
