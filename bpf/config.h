/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Load-time settings. The agent fills them in before the load; the verifier
 * then knows them and removes what is switched off. */
#pragma once

#include "abi.h"

const volatile struct config config = {};
