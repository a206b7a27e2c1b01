/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Direct server return: the backend's node answers the client itself. */
#pragma once

#include "service.h"

/* Sends a client's packet, whose destination is the backend's address by now, to the
 * backend's node. A verdict, or a drop reason. */
static __always_inline int dsr_forward(struct __sk_buff *skb, struct packet *packet,
				       const struct service_hit *hit)
{
	return -DROP_TUNNEL_NO_NODE;
}
