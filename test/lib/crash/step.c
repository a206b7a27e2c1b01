/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Preloaded into a daemon: ends it by SIGKILL right after one of the calls that
 * change what outlives it (pins, attachments, map contents, names of files).
 * CRASH_AT says after which one, by its number, or by its name: the first of
 * that name. All of them are named in the file CRASH_LOG. With CRASH_EACH every
 * single one is a step, and so is every run of a program on the daemon's behalf.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum command {
	MAP_UPDATE = 2,
	MAP_DELETE = 3,
	OBJ_PIN = 6,
	PROG_RUN = 10,
	LINK_CREATE = 28,
	LINK_UPDATE = 29,
	LINK_DETACH = 34,
};

static const char *log, *named;
static int at, steps, each;
static const char *last = "";

/* The shell in front and the programs that the daemon runs are left alone. */
__attribute__((constructor)) static void begin(void)
{
	if (strcmp(program_invocation_short_name, "node") || !getenv("CRASH_AT"))
		return;
	named = strdup(getenv("CRASH_AT"));
	at = atoi(named);
	log = strdup(getenv("CRASH_LOG"));
	each = getenv("CRASH_EACH") != NULL;
	unsetenv("LD_PRELOAD");
}

/* A row of updates is one step: its first. */
static void step(const char *name, int repeats)
{
	int fd;

	if (!log || (repeats && !each && !strcmp(name, last)))
		return;
	last = name;
	steps++;
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd >= 0) {
		(void)!write(fd, name, strlen(name));
		(void)!write(fd, "\n", 1);
		close(fd);
	}
	if (steps == at || !strcmp(name, named))
		kill(getpid(), SIGKILL);
}

static void bpf_step(long command)
{
	switch (command) {
	case MAP_UPDATE:
		return step("update", 1);
	case MAP_DELETE:
		return step("delete", 1);
	case PROG_RUN:
		if (each)
			step("run", 0);
		return;
	case OBJ_PIN:
		return step("pin", 0);
	case LINK_CREATE:
		return step("attach", 0);
	case LINK_UPDATE:
		return step("replace", 0);
	case LINK_DETACH:
		return step("detach", 0);
	}
}

long syscall(long number, ...)
{
	static long (*next)(long, ...);
	__builtin_va_list args;
	long a[6], result;

	__builtin_va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = __builtin_va_arg(args, long);
	__builtin_va_end(args);
	if (!next)
		next = dlsym(RTLD_NEXT, "syscall");
	result = next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (number == SYS_bpf && result >= 0)
		bpf_step(a[0]);
	return result;
}

int rename(const char *from, const char *to)
{
	static int (*next)(const char *, const char *);
	int result;

	if (!next)
		next = dlsym(RTLD_NEXT, "rename");
	result = next(from, to);
	if (!result)
		step("rename", 0);
	return result;
}

int unlink(const char *path)
{
	static int (*next)(const char *);
	int result;

	if (!next)
		next = dlsym(RTLD_NEXT, "unlink");
	result = next(path);
	if (!result)
		step("unlink", 0);
	return result;
}

/* A netlink message that makes or removes a qdisc or a filter of classic TC. */
static int changes_tc(const void *message, size_t length)
{
	unsigned short type;

	if (length < 16)
		return 0;
	memcpy(&type, (const char *)message + 4, sizeof(type));
	return type == 36 || type == 37 || type == 44 || type == 45;
}

ssize_t send(int fd, const void *message, size_t length, int flags)
{
	static ssize_t (*next)(int, const void *, size_t, int);
	ssize_t result;

	if (!next)
		next = dlsym(RTLD_NEXT, "send");
	result = next(fd, message, length, flags);
	if (result >= 0 && changes_tc(message, length))
		step("filter", 0);
	return result;
}
