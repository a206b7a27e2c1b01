// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What forwarding costs a program that decides nothing: no state, no address and
 * no hop limit is touched. The bound for anything that sits on these hooks.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

const volatile struct {
	__u32 uplink; /* ifindex of the node's device */
	__u32 pod;    /* ifindex of the host side of the pod's link */
} ends = {};

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int from_pod(struct __sk_buff *skb)
{
	return bpf_redirect_neigh(ends.uplink, NULL, 0, 0);
}

SEC("tc")
int from_world(struct __sk_buff *skb)
{
	return bpf_redirect_peer(ends.pod, 0);
}
