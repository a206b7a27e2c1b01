import { encode } from '../abi/codec.ts';
import { layouts } from '../abi/generated.ts';
import { SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';

/** Seconds. */
export interface Timeouts {
  tcp: number;
  tcpSyn: number;
  tcpClose: number;
  any: number;
  serviceTcp: number;
  serviceAny: number;
  serviceClose: number;
}

/** What a program is loaded with: part of it, folded in by the verifier. */
export interface LoadSettings {
  /** Of the node state. */
  secret: bigint[];
  /** Jiffies per second. */
  hz: number;
  timeouts?: Timeouts;
  /** Insertions of a CPU into a table after which the agent hears of it: a power of two, or 0. */
  fillStep?: number;
  masquerade?: boolean;
  restore?: boolean;
  fastRouting?: boolean;
  accounting?: boolean;
  fibSkipNeigh?: boolean;
  csumIpv6?: boolean;
  /** Runs in a task, where a packet may come in between. */
  interruptible?: boolean;
}

const NO_TIMEOUTS: Timeouts = {
  tcp: 0,
  tcpSyn: 0,
  tcpClose: 0,
  any: 0,
  serviceTcp: 0,
  serviceAny: 0,
  serviceClose: 0,
};

/**
 * A copy of an object's `.rodata` with its struct config filled in. What is not given is 0.
 * Throws E_LOAD when the section is too small to begin with the struct.
 */
export function configBytes(
  family: Family,
  rodata: Uint8Array,
  settings: LoadSettings,
): Uint8Array {
  const layout = layouts[family].config;
  if (rodata.length < layout.size) {
    throw new SekishoError('E_LOAD', 'a BPF object does not match this version', {
      hint: 'run make build',
    });
  }
  const { timeouts = NO_TIMEOUTS } = settings;
  const bytes = encode(layout, {
    secret: settings.secret,
    hz: settings.hz,
    timeout_tcp: timeouts.tcp,
    timeout_tcp_syn: timeouts.tcpSyn,
    timeout_tcp_close: timeouts.tcpClose,
    timeout_any: timeouts.any,
    timeout_service_tcp: timeouts.serviceTcp,
    timeout_service_any: timeouts.serviceAny,
    timeout_service_close: timeouts.serviceClose,
    fill_step: settings.fillStep ?? 0,
    masquerade: Number(settings.masquerade ?? false),
    restore: Number(settings.restore ?? false),
    fast_routing: Number(settings.fastRouting ?? false),
    accounting: Number(settings.accounting ?? false),
    fib_skip_neigh: Number(settings.fibSkipNeigh ?? false),
    csum_ipv6: Number(settings.csumIpv6 ?? false),
    interruptible: Number(settings.interruptible ?? false),
  });
  const filled = Uint8Array.from(rodata);
  filled.set(bytes);
  return filled;
}
