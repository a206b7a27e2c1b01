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

#include "conntrack.h"

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
