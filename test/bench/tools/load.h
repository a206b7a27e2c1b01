/* SPDX-License-Identifier: Apache-2.0 */
/* What the load tools share. They speak IPv4, run for a given time, and print one JSON object. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull /* ns */

static inline _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static inline void need_args(int argc, int count, const char *usage)
{
	if (argc == count + 1)
		return;
	fprintf(stderr, "usage: %s\n", usage);
	exit(2);
}

static inline uint64_t read_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static inline uint64_t now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/* What this process has used of its CPU, the packets included that it pushed through the stack
 * itself. Unlike the time that has passed, it does not grow while others have the CPU. */
static inline uint64_t cpu_ns(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

static inline struct sockaddr_in address(const char *text, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };

	if (inet_pton(AF_INET, text, &to.sin_addr) != 1) {
		fprintf(stderr, "%s is no IPv4 address\n", text);
		exit(2);
	}
	return to;
}

static inline int open_socket(int type)
{
	int fd = socket(AF_INET, type, 0);

	if (fd < 0)
		die("socket");
	return fd;
}

static inline void set_option(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)))
		die("setsockopt");
}

static inline int connect_tcp(const char *host, int port)
{
	struct sockaddr_in to = address(host, port);
	int fd = open_socket(SOCK_STREAM);

	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("connect");
	return fd;
}

/* Who is seen on the other side: one address, or more than one. */
struct peers {
	struct in_addr first;
	uint64_t strangers; /* packets or connections from any other */
};

static inline void peers_saw(struct peers *peers, struct in_addr addr)
{
	if (!peers->first.s_addr)
		peers->first = addr;
	else if (peers->first.s_addr != addr.s_addr)
		peers->strangers++;
}

/* Set by SIGTERM: the end of a program that serves. */
static volatile sig_atomic_t ended;

static inline void on_end(int signal)
{
	ended = 1;
}

/* Blocking calls are interrupted, not restarted. Tells the reader of our output that the port is
 * open. */
static inline void serve_until_end(void)
{
	struct sigaction action = { .sa_handler = on_end };

	sigaction(SIGTERM, &action, NULL);
	puts("ready");
	fflush(stdout);
}
