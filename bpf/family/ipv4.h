/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * IPv4: addresses, header parsing and rewriting, ICMP classification. ipv6.h
 * defines the same names; no other file knows which of the two it is built with.
 */
#pragma once

#define FAMILY_HEADER

#include <linux/types.h>

struct ip_addr {
	__be32 addr;
};
