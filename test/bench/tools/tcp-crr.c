/* SPDX-License-Identifier: Apache-2.0 */
/* Connect, one byte there, one byte back, reset: CONCURRENT connections at a time. The reset
 * leaves no TIME_WAIT behind, so that ports do not run out. */
#define _GNU_SOURCE
#include "load.h"

#define EVENTS 64

struct client {
	int epoll;
	struct sockaddr_in to;
	uint64_t done;
	uint64_t failed;
};

static void open_connection(struct client *client)
{
	struct linger reset = { .l_onoff = 1 };
	struct epoll_event event = { .events = EPOLLOUT };
	int fd = open_socket(SOCK_STREAM | SOCK_NONBLOCK);

	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)))
		die("SO_LINGER");
	if (connect(fd, (struct sockaddr *)&client->to, sizeof(client->to)) && errno != EINPROGRESS)
		die("connect");
	event.data.fd = fd;
	if (epoll_ctl(client->epoll, EPOLL_CTL_ADD, fd, &event))
		die("epoll_ctl");
}

static void again(struct client *client, int fd, bool success)
{
	*(success ? &client->done : &client->failed) += 1;
	close(fd);
	open_connection(client);
}

static void advance(struct client *client, const struct epoll_event *event)
{
	struct epoll_event next = { .events = EPOLLIN, .data = event->data };
	int fd = event->data.fd;
	char byte = 0;

	if (event->events & (EPOLLERR | EPOLLHUP)) {
		again(client, fd, false);
	} else if (event->events & EPOLLOUT) {
		if (write(fd, &byte, 1) != 1 || epoll_ctl(client->epoll, EPOLL_CTL_MOD, fd, &next))
			again(client, fd, false);
	} else {
		again(client, fd, read(fd, &byte, 1) == 1);
	}
}

int main(int argc, char **argv)
{
	struct client client = { .epoll = epoll_create1(0) };
	struct epoll_event events[EVENTS];
	uint64_t begun, end, now;

	need_args(argc, 4, "tcp-crr ADDRESS PORT CONCURRENT MILLISECONDS");
	client.to = address(argv[1], atoi(argv[2]));
	begun = now = now_ns();
	end = begun + atoi(argv[4]) * (SECOND / 1000);
	for (int i = 0; i < atoi(argv[3]); i++)
		open_connection(&client);
	while (now < end) {
		int count = epoll_wait(client.epoll, events, EVENTS, 100);

		for (int i = 0; i < count; i++)
			advance(&client, &events[i]);
		now = now_ns();
	}
	printf("{\"connections\":%lu,\"failed\":%lu,\"elapsedNs\":%lu,\"cpuNs\":%lu}\n",
	       client.done, client.failed, now - begun, cpu_ns());
}
