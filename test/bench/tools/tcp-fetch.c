/* SPDX-License-Identifier: Apache-2.0 */
/* Reads for a while what a server says without end. What counts is what arrived. */
#define _GNU_SOURCE
#include "load.h"

#define BUFFER (256 << 10)

int main(int argc, char **argv)
{
	static char buffer[BUFFER];
	uint64_t begun, end, bytes = 0;
	int fd;

	need_args(argc, 3, "tcp-fetch ADDRESS PORT MILLISECONDS");
	fd = connect_tcp(argv[1], atoi(argv[2]));
	begun = now_ns();
	end = begun + atoi(argv[3]) * (SECOND / 1000);
	while (now_ns() < end) {
		ssize_t length = read(fd, buffer, sizeof(buffer));

		if (length <= 0)
			die("read");
		bytes += length;
	}
	printf("{\"bytes\":%lu,\"elapsedNs\":%lu,\"cpuNs\":%lu}\n", bytes, now_ns() - begun,
	       cpu_ns());
}
