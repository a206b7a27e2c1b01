/* SPDX-License-Identifier: Apache-2.0 */
/* Accepts any number of connections on PORT, and returns (echo) or forgets (discard) what they
 * say, or talks to them without end (chargen), until SIGTERM. A connection that the client has
 * finished is closed. */
#define _GNU_SOURCE
#include "load.h"

#define BUFFER (256 << 10)
#define EVENTS 64

struct server {
	int epoll;
	int listener;
	bool echo;
	bool talk;
	uint64_t connections;
	uint64_t received;
	struct peers peers;
};

static void watch(struct server *server, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event))
		die("epoll_ctl");
}

static void accept_all(struct server *server)
{
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	int fd;

	while ((fd = accept4(server->listener, (struct sockaddr *)&from, &size, SOCK_NONBLOCK)) >=
	       0) {
		set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
		server->connections++;
		peers_saw(&server->peers, from.sin_addr);
		watch(server, fd, server->talk ? EPOLLOUT : EPOLLIN);
	}
}

static void serve(struct server *server, int fd)
{
	static char buffer[BUFFER];
	ssize_t length = read(fd, buffer, sizeof(buffer));

	if (length < 0 && errno == EAGAIN)
		return;
	if (length <= 0) {
		close(fd);
		return;
	}
	server->received += length;
	if (server->echo && write(fd, buffer, length) != length)
		close(fd);
}

static void talk(int fd)
{
	static const char buffer[BUFFER];

	while (send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) > 0)
		;
	if (errno != EAGAIN)
		close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in here = { .sin_family = AF_INET };
	struct server server = { .epoll = epoll_create1(0) };
	struct epoll_event events[EVENTS];

	need_args(argc, 2, "tcp-server echo|discard|chargen PORT");
	server.echo = !strcmp(argv[1], "echo");
	server.talk = !strcmp(argv[1], "chargen");
	here.sin_port = htons(atoi(argv[2]));
	server.listener = open_socket(SOCK_STREAM | SOCK_NONBLOCK);
	set_option(server.listener, SOL_SOCKET, SO_REUSEADDR, 1);
	if (bind(server.listener, (struct sockaddr *)&here, sizeof(here)) ||
	    listen(server.listener, 4096))
		die("listen");
	watch(&server, server.listener, EPOLLIN);
	serve_until_end();
	while (!ended) {
		int count = epoll_wait(server.epoll, events, EVENTS, -1);

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == server.listener)
				accept_all(&server);
			else if (server.talk)
				talk(events[i].data.fd);
			else
				serve(&server, events[i].data.fd);
		}
	}
	printf("{\"received\":%lu,\"connections\":%lu,\"cpuNs\":%lu,\"peer\":\"%s\",\"strangers\":%"
	       "lu}\n",
	       server.received, server.connections, cpu_ns(), inet_ntoa(server.peers.first),
	       server.peers.strangers);
}
