/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small datagrams over many flows: SOCKETS source ports from FIRST on, each to DESTINATIONS
 * addresses from ADDRESS on. Every flow is seen once before the clock starts; of the sockets, the
 * first HOLD only then. The first byte says whether a datagram counts.
 */
#define _GNU_SOURCE
#include "load.h"

#define PAYLOAD 18
#define BATCH   64

struct flood {
	int *sockets;
	int count;
	struct sockaddr_in *destinations;
	int destination_count;
	uint64_t sent;
	uint64_t refused; /* by our own stack */
	char payload[PAYLOAD];
};

static void open_sockets(struct flood *flood, int first, int count)
{
	struct sockaddr_in from = { .sin_family = AF_INET };

	flood->count = count;
	flood->sockets = calloc(count, sizeof(*flood->sockets));
	for (int i = 0; i < count; i++) {
		int fd = open_socket(SOCK_DGRAM);

		from.sin_port = htons(first + i);
		if (bind(fd, (struct sockaddr *)&from, sizeof(from)))
			die("bind");
		if (flood->destination_count == 1 &&
		    connect(fd, (struct sockaddr *)flood->destinations, sizeof(from)))
			die("connect");
		flood->sockets[i] = fd;
	}
}

static void name_destinations(struct flood *flood, const char *host, int port, int count)
{
	struct sockaddr_in to = address(host, port);
	uint32_t base = ntohl(to.sin_addr.s_addr);

	flood->destination_count = count;
	flood->destinations = calloc(count, sizeof(*flood->destinations));
	for (int i = 0; i < count; i++) {
		to.sin_addr.s_addr = htonl(base + i);
		flood->destinations[i] = to;
	}
}

/* One socket's datagrams number `from` up to `to`. */
static void send_batch(struct flood *flood, int fd, int from, int to)
{
	struct iovec data = { .iov_base = flood->payload, .iov_len = PAYLOAD };
	struct mmsghdr messages[BATCH] = {};
	int sent;

	for (int i = from; i < to; i++) {
		struct msghdr *header = &messages[i - from].msg_hdr;

		header->msg_iov = &data;
		header->msg_iovlen = 1;
		if (flood->destination_count > 1) {
			header->msg_name = &flood->destinations[i];
			header->msg_namelen = sizeof(*flood->destinations);
		}
	}
	sent = sendmmsg(fd, messages, to - from, 0);
	if (sent < 0)
		flood->refused += to - from;
	else
		flood->sent += sent;
}

/* A single flow is sent in whole batches, of many each once. */
static void send_turn(struct flood *flood, int fd)
{
	int turn = flood->count * flood->destination_count == 1 ? BATCH : flood->destination_count;

	for (int at = 0; at < turn; at += BATCH)
		send_batch(flood, fd, at, at + BATCH < turn ? at + BATCH : turn);
}

/* Not faster than `pace` datagrams a second; 0: as fast as can be. */
static void keep_pace(const struct flood *flood, uint64_t begun, int pace)
{
	uint64_t due = pace ? flood->sent * SECOND / pace : 0;
	uint64_t passed = now_ns() - begun;
	struct timespec pause = {};

	if (due <= passed)
		return;
	pause.tv_nsec = due - passed < SECOND ? due - passed : SECOND - 1;
	nanosleep(&pause, NULL);
}

int main(int argc, char **argv)
{
	struct flood flood = {};
	uint64_t begun, end, now, cpu;
	int hold, pace;

	need_args(argc, 8,
		  "udp-flood ADDRESS PORT FIRST SOCKETS HOLD DESTINATIONS MILLISECONDS PACE");
	name_destinations(&flood, argv[1], atoi(argv[2]), atoi(argv[6]));
	open_sockets(&flood, atoi(argv[3]), atoi(argv[4]));
	hold = atoi(argv[5]);
	pace = atoi(argv[8]);

	for (int i = 0; i < flood.count; i++)
		send_turn(&flood, flood.sockets[i]);

	flood.payload[0] = 1;
	flood.sent = flood.refused = 0;
	cpu = cpu_ns();
	begun = now = now_ns();
	end = begun + atoi(argv[7]) * (SECOND / 1000);
	for (int i = hold; now < end; i = i + 1 < flood.count ? i + 1 : hold) {
		send_turn(&flood, flood.sockets[i]);
		if (pace && i % 16 == 0)
			keep_pace(&flood, begun, pace);
		now = now_ns();
	}
	printf("{\"sent\":%lu,\"refused\":%lu,\"elapsedNs\":%lu,\"cpuNs\":%lu}\n", flood.sent,
	       flood.refused, now - begun, cpu_ns() - cpu);
}
