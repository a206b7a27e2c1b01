/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * watchpoint PROGRAM ADDRESS THREAD: runs the pinned BPF program whenever the thread
 * writes to the kernel's memory at the address. Says "ready", and ends with its
 * standard input.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_program(const char *path)
{
	union bpf_attr attr = { .pathname = (uint64_t)(uintptr_t)path };

	return syscall(SYS_bpf, BPF_OBJ_GET, &attr, sizeof(attr));
}

static int open_watchpoint(uint64_t address, pid_t thread)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_W,
		.bp_addr = address,
		.bp_len = HW_BREAKPOINT_LEN_8,
		.sample_period = 1,
		.exclude_user = 1,
		.exclude_hv = 1,
		.disabled = 1,
	};

	return syscall(SYS_perf_event_open, &attr, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	int program, event;
	char byte;

	if (argc != 4)
		return 2;
	program = open_program(argv[1]);
	if (program < 0)
		return fail(argv[1]);
	event = open_watchpoint(strtoull(argv[2], NULL, 16), atoi(argv[3]));
	if (event < 0)
		return fail("set a watchpoint");
	if (ioctl(event, PERF_EVENT_IOC_SET_BPF, program) || ioctl(event, PERF_EVENT_IOC_ENABLE, 0))
		return fail("run a program there");
	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
