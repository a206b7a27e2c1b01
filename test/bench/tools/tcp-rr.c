/* SPDX-License-Identifier: Apache-2.0 */
/* One byte there, one byte back, on one connection. */
#define _GNU_SOURCE
#include "load.h"

#define SAMPLES (1 << 20)

static uint32_t samples[SAMPLES]; /* ns */

static int by_length(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	uint64_t begun, end, now, cpu, count = 0, kept;
	char byte = 0;
	int fd;

	need_args(argc, 3, "tcp-rr ADDRESS PORT MILLISECONDS");
	fd = connect_tcp(argv[1], atoi(argv[2]));
	begun = now = now_ns();
	end = begun + atoi(argv[3]) * (SECOND / 1000);
	while (now < end) {
		uint64_t sent = now;

		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			die("exchange");
		now = now_ns();
		samples[count++ % SAMPLES] = now - sent;
	}
	cpu = cpu_ns();
	kept = count < SAMPLES ? count : SAMPLES;
	qsort(samples, kept, sizeof(*samples), by_length);
	printf("{\"exchanges\":%lu,\"elapsedNs\":%lu,\"cpuNs\":%lu,\"p50Ns\":%u,\"p99Ns\":%u}\n",
	       count, now - begun, cpu, samples[kept / 2], samples[kept * 99 / 100]);
}
