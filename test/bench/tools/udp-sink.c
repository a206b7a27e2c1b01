/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts the datagrams of udp-flood on PORT of every address, until SIGTERM. It looks from time to
 * time instead of waiting: whoever sends to a sleeper pays for waking it, which is no part of the
 * way there.
 */
#define _GNU_SOURCE
#include "load.h"

#define BATCH 64
#define NAP   200000 /* ns; what arrives meanwhile fits into the socket's buffer */

int main(int argc, char **argv)
{
	struct sockaddr_in here = { .sin_family = AF_INET }, from[BATCH];
	const struct timespec nap = { .tv_nsec = NAP };
	uint64_t received = 0, warmup = 0;
	struct mmsghdr messages[BATCH] = {};
	struct peers peers = {};
	struct iovec data[BATCH];
	char bytes[BATCH][64];
	int fd = open_socket(SOCK_DGRAM);

	need_args(argc, 1, "udp-sink PORT");
	here.sin_port = htons(atoi(argv[1]));
	set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20);
	if (bind(fd, (struct sockaddr *)&here, sizeof(here)))
		die("bind");
	for (int i = 0; i < BATCH; i++) {
		data[i] = (struct iovec){ .iov_base = bytes[i], .iov_len = sizeof(bytes[i]) };
		messages[i].msg_hdr.msg_iov = &data[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &from[i];
	}
	serve_until_end();
	for (;;) {
		int count;

		for (int i = 0; i < BATCH; i++)
			messages[i].msg_hdr.msg_namelen = sizeof(from[i]);
		count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
		if (count < 0 && ended)
			break;
		if (count < 0)
			nanosleep(&nap, NULL);
		for (int i = 0; i < count; i++) {
			*(bytes[i][0] ? &received : &warmup) += 1;
			peers_saw(&peers, from[i].sin_addr);
		}
	}
	printf("{\"received\":%lu,\"warmup\":%lu,\"cpuNs\":%lu,\"peer\":\"%s\",\"strangers\":%lu}"
	       "\n",
	       received, warmup, cpu_ns(), inet_ntoa(peers.first), peers.strangers);
}
