/* SPDX-License-Identifier: Apache-2.0 */
/* Sends for a while as fast as it goes. The time ends when the server has read everything. */
#define _GNU_SOURCE
#include "load.h"

#define CHUNK (128 << 10)

int main(int argc, char **argv)
{
	static char chunk[CHUNK];
	uint64_t begun, end, bytes = 0;
	int fd;

	need_args(argc, 3, "tcp-bulk ADDRESS PORT MILLISECONDS");
	fd = connect_tcp(argv[1], atoi(argv[2]));
	begun = now_ns();
	end = begun + atoi(argv[3]) * (SECOND / 1000);
	while (now_ns() < end) {
		ssize_t length = write(fd, chunk, sizeof(chunk));

		if (length < 0)
			die("write");
		bytes += length;
	}
	shutdown(fd, SHUT_WR);
	if (read(fd, chunk, 1) != 0)
		die("the server's end");
	printf("{\"bytes\":%lu,\"elapsedNs\":%lu,\"cpuNs\":%lu}\n", bytes, now_ns() - begun,
	       cpu_ns());
}
