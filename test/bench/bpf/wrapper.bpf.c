// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Puts a fresh packet in front of a program on every repetition of a test run:
 * the programs rewrite what they see, so a plain repetition would measure
 * something else from the second run on. Flows differ by port and, past 32,768
 * of them, by the last bytes of the peer's address.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_MAX  128 /* headers in a tunnel, and those of the tunnel */
#define PORT_FIRST 32768

struct order {
	__u8 frame[FRAME_MAX];
	__u32 length;
	__u32 flows;
	__u32 port_offset; /* of the field that tells flows apart */
	__u32 peer_offset; /* of the last two bytes of the peer's address */
	__u32 cb[5];
	__u32 next;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct order);
} orders SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int wrapper(struct __sk_buff *skb)
{
	__u32 zero = 0, flow, length;
	struct order *order = bpf_map_lookup_elem(&orders, &zero);
	__be16 port, peer;

	if (!order)
		return -1;
	flow = order->next;
	order->next = flow + 1 < order->flows ? flow + 1 : 0;
	length = order->length;
	if (length < 14 || length > FRAME_MAX)
		return -1;
	bpf_skb_store_bytes(skb, 0, order->frame, length, 0);
	port = bpf_htons(PORT_FIRST + (flow & 0x7fff));
	peer = bpf_htons(flow >> 15);
	bpf_skb_store_bytes(skb, order->port_offset, &port, sizeof(port), 0);
	bpf_skb_store_bytes(skb, order->peer_offset, &peer, sizeof(peer), 0);
	skb->cb[0] = order->cb[0];
	skb->cb[1] = order->cb[1];
	skb->cb[2] = order->cb[2];
	skb->cb[3] = order->cb[3];
	skb->cb[4] = order->cb[4];
	skb->mark = 0;
	bpf_tail_call(skb, &target, 0);
	return -1;
}

SEC("tc")
int nothing(struct __sk_buff *skb)
{
	return -1;
}
