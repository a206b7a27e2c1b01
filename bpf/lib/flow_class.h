/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What relief goes by. agent/engine/relief.ts reads the same off a batch of values. */
#pragma once

#include "tcp_state.h"

/* An unproven RST (RFC 5961) makes no established connection a closing one. */
static __always_inline enum flow_class tcp_flow_class(const struct ct_entry *entry)
{
	if (tcp_closed(entry->flags, entry->seen))
		return FLOW_CLOSING;
	if (tcp_established(entry->flags, entry->seen))
		return FLOW_ESTABLISHED;
	if (entry->seen & CT_RX_RESET)
		return FLOW_CLOSING;
	return (entry->seen & CT_SEEN_BOTH) == CT_SEEN_BOTH ? FLOW_OPENING : FLOW_HALF_OPEN;
}

static __always_inline enum flow_class flow_class(const struct ct_entry *entry, bool tcp)
{
	if (tcp)
		return tcp_flow_class(entry);
	return (entry->seen & CT_SEEN_BOTH) == CT_SEEN_BOTH ? FLOW_ANSWERED : FLOW_UNANSWERED;
}
