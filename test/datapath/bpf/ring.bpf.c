// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Writes to a ring buffer what a test asks for: records that tell their number
 * and their length in every word. */
#include "lib/compiler.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define RECORD_MAX 512

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct record {
	__u32 words[RECORD_MAX / 4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record);
} scratch SEC(".maps");

struct order {
	__u32 first; /* in: number of the first record */
	__u32 count;
	__u32 words;   /* in: of each */
	__u32 discard; /* in: not 0: each is preceded by one that is taken back */
	__u32 lost;    /* out: did not fit */
};

struct run {
	struct order *order;
	struct record *record;
	__u32 lost;
};

static long write_one(__u32 index, void *data)
{
	struct run *run = data;
	__u32 number = run->order->first + index;
	__u32 words = run->order->words;
	void *taken_back;

	for (int i = 0; i < RECORD_MAX / 4; i++)
		run->record->words[i] = number;
	if (words < 1 || words > RECORD_MAX / 4)
		return 1;
	if (run->order->discard) {
		taken_back = bpf_ringbuf_reserve(&ring, 24, 0);
		if (taken_back)
			bpf_ringbuf_discard(taken_back, 0);
	}
	if (bpf_ringbuf_output(&ring, run->record, words * 4, 0))
		run->lost++;
	return 0;
}

SEC("syscall")
int fill(struct order *order)
{
	__u32 zero = 0;
	struct run run = { .order = order, .record = bpf_map_lookup_elem(&scratch, &zero) };

	if (!run.record)
		return 1;
	bpf_loop(order->count, write_one, &run, 0);
	order->lost = run.lost;
	return 0;
}
