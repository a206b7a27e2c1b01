/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a SYN-ACK promises to take in one segment (RFC 9293, 3.7.1). */
#pragma once

#include "csum.h"
#include "packet.h"

#define TCP_HEADER       20
#define TCP_OPTION_END   0
#define TCP_OPTION_NOP   1
#define TCP_OPTION_MSS   2
#define TCP_OPTIONS_MOST 40 /* bytes */

/* Is it a SYN-ACK? TCP's only. */
static __always_inline bool tcp_promises(__u32 tcp_flags)
{
	return (tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
}

struct tcp_option {
	__u8 kind;
	__u8 length;
};

struct mss_search {
	struct __sk_buff *skb;
	__u32 off;
	__u32 end;
	bool found;
};

/* One option; 1 ends the walk. */
static long mss_step(__u32 index, void *data)
{
	struct mss_search *search = data;
	struct tcp_option option;

	if (search->off + sizeof(option) > search->end ||
	    bpf_skb_load_bytes(search->skb, search->off, &option, sizeof(option)) ||
	    option.kind == TCP_OPTION_END)
		return 1;
	if (option.kind == TCP_OPTION_NOP) {
		search->off += 1;
		return 0;
	}
	if (option.kind == TCP_OPTION_MSS) {
		search->found = option.length == 4 && search->off + 4 <= search->end;
		return 1;
	}
	if (option.length < sizeof(option))
		return 1;
	search->off += option.length;
	return 0;
}

/* Lowers the promise of a segment with SYN to `most` bytes; its header is `size` bytes at
 * `tcp`. A segment without one promises less than any path carries. 0, or -DROP_REWRITE. */
static __noinline int mss_clamp(struct __sk_buff *skb, __u32 tcp, __u32 size, __u32 most)
{
	struct mss_search search = {
		.skb = skb,
		.off = tcp + TCP_HEADER,
		.end = tcp + size,
	};
	__u16 due = most > 0xffff ? 0xffff : most;
	__be16 old, new = bpf_htons(due);
	__u32 at;

	bpf_loop(TCP_OPTIONS_MOST, mss_step, &search, 0);
	at = search.off + sizeof(struct tcp_option);
	if (!search.found || bpf_skb_load_bytes(skb, at, &old, sizeof(old)))
		return 0;
	if (bpf_ntohs(old) <= due)
		return 0;
	if (bpf_skb_store_bytes(skb, at, &new, sizeof(new), 0))
		return -DROP_REWRITE;
	/* across two words of the sum, each byte has the other one's place */
	if ((at - tcp) & 1) {
		old = old >> 8 | old << 8;
		new = new >> 8 | new << 8;
	}
	return bpf_l4_csum_replace(skb, tcp + 16, old, new, 2) ? -DROP_REWRITE : 0;
}
