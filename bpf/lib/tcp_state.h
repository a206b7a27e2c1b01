/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a TCP segment makes of its entry. Flags only: there is no sequence
 * tracking yet, so nothing that comes from outside can be believed to end a
 * connection (RFC 5961; RFC 7857, section 2).
 */
#pragma once

#include "clock.h"
#include "packet.h"

enum ct_dir {
	CT_TX, /* the endpoint sent it: its source has been checked */
	CT_RX,
};

/* The least that an unproven RST from outside leaves, RFC 7857, section 2.3. */
#define TCP_RESET_GRACE 240

/* Both sides have closed, and not merely by an unproven RST. */
static __always_inline bool tcp_closed(__u16 flags, __u8 seen)
{
	return (flags & CT_RX_CLOSING) && (flags & CT_TX_CLOSING) && !(seen & CT_RX_RESET);
}

static __always_inline bool tcp_established(__u16 flags, __u8 seen)
{
	return (flags & CT_SEEN_NON_SYN) && (seen & CT_SEEN_BOTH) == CT_SEEN_BOTH;
}

static __always_inline __u32 tcp_lifetime(__u16 flags, __u8 seen)
{
	return tcp_established(flags, seen) ? config.timeout_tcp : config.timeout_tcp_syn;
}

/* The first segment of whoever opens. No flags, as in other protocols, are none. */
static __always_inline bool tcp_opens(__u8 tcp_flags)
{
	return (tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* A SYN of the opener on a closing entry: a new connection in an old tuple. */
static __always_inline bool tcp_reopens(const struct ct_entry *entry, bool opener, __u8 tcp_flags)
{
	return opener && tcp_opens(tcp_flags) && (entry->flags & (CT_RX_CLOSING | CT_TX_CLOSING));
}

static __always_inline enum nat_class tcp_class(const struct ct_entry *entry)
{
	if (tcp_closed(entry->flags, entry->seen) || (entry->seen & CT_RX_RESET))
		return NAT_CLASS_CLOSING;
	return tcp_established(entry->flags, entry->seen) ? NAT_CLASS_ESTABLISHED : NAT_CLASS_SYN;
}

/* Advances flags and seen; returns when the entry expires now. */
static __always_inline __u32 tcp_advance(const struct ct_entry *entry, enum ct_dir dir,
					 __u8 tcp_flags, __u32 now, __u16 *flags, __u8 *seen)
{
	__u16 closing = dir == CT_TX ? CT_TX_CLOSING : CT_RX_CLOSING;

	/* Anybody can send a RST here: keep the entry, and wait for the pod to
	 * contradict it. It is no evidence that the peer is alive either. */
	if ((tcp_flags & TCP_RST) && dir == CT_RX) {
		if (tcp_closed(*flags, *seen))
			return entry->expires;
		*flags |= CT_RX_CLOSING;
		*seen |= CT_RX_RESET;
		return entry->expires < now + TCP_RESET_GRACE ? entry->expires :
								now + TCP_RESET_GRACE;
	}

	*seen |= dir == CT_TX ? CT_SEEN_TX : CT_SEEN_RX;
	if (!(tcp_flags & TCP_SYN))
		*flags |= CT_SEEN_NON_SYN;

	if (tcp_flags & TCP_RST) {
		*flags |= CT_RX_CLOSING | CT_TX_CLOSING;
		*seen &= ~CT_RX_RESET;
		return now + config.timeout_tcp_close;
	}
	if (*seen & CT_RX_RESET) {
		if (dir == CT_RX || (tcp_flags & (TCP_SYN | TCP_FIN))) {
			if (tcp_flags & TCP_FIN)
				*flags |= closing;
			return entry->expires;
		}
		*seen &= ~CT_RX_RESET;
		if (!(entry->rx_flags_seen & TCP_FIN))
			*flags &= ~CT_RX_CLOSING;
	}
	if (tcp_flags & TCP_FIN) {
		*flags |= closing;
		if (tcp_closed(*flags, *seen))
			return now + config.timeout_tcp_close;
	} else if (tcp_closed(*flags, *seen)) {
		return entry->expires;
	}
	return now + tcp_lifetime(*flags, *seen);
}
