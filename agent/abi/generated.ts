// Generated from bpf/abi.h by scripts/generate-abi.ts (`make generate`). Do not edit.
import type { Layout } from './layout.ts';

export const backend_mask = {
  BACKEND_STATE: 15,
  BACKEND_NOT_EXTERNAL: 16,
  BACKEND_NOT_INTERNAL: 32,
} as const;

export const backend_state = {
  BACKEND_ACTIVE: 0,
  BACKEND_TERMINATING: 1,
  BACKEND_QUARANTINED: 2,
  BACKEND_MAINTENANCE: 3,
} as const;

export const backend_table_size = {
  BACKEND_TABLE_SIZE: 16381,
} as const;

export const copy_limit = {
  COPY_BATCH: 4096,
} as const;

export const counter = {
  COUNTER_PACKETS: 0,
  COUNTER_DROPS: 16,
  COUNTER_CREATED: 144,
  COUNTER_DELETED: 147,
  COUNTER_RESTORED: 150,
  COUNTER_UPDATE_ERRORS: 153,
  COUNTER_NAT_ATTEMPTS: 171,
  COUNTER_EVENTS_LOST: 205,
  COUNTER_COUNT: 206,
} as const;

export const ct_flag = {
  CT_RX_CLOSING: 1,
  CT_TX_CLOSING: 2,
  CT_LB_LOOPBACK: 8,
  CT_SEEN_NON_SYN: 16,
  CT_NODE_PORT: 32,
  CT_PROXY_REDIRECT: 64,
  CT_DSR_INTERNAL: 128,
  CT_FROM_L7LB: 256,
  CT_FROM_TUNNEL: 1024,
} as const;

export const ct_seen = {
  CT_SEEN_TX: 1,
  CT_SEEN_RX: 2,
  CT_SEEN_BOTH: 3,
  CT_RX_RESET: 4,
} as const;

export const device_flag = {
  DEVICE_HAS_ADDRESS: 1,
} as const;

export const drop_reason = {
  DROP_NONE: 0,
  DROP_MALFORMED: 1,
  DROP_EXTENSION_HEADERS: 2,
  DROP_INVALID_SOURCE: 3,
  DROP_UNKNOWN_SOURCE: 4,
  DROP_SPOOFED_SOURCE: 5,
  DROP_CT_INSERT: 6,
  DROP_NAT_INSERT: 7,
  DROP_NAT_NO_PORT: 8,
  DROP_NAT_FULL: 9,
  DROP_NO_EGRESS_ADDRESS: 10,
  DROP_HALF_LOST: 11,
  DROP_ICMP_UNSUPPORTED: 12,
  DROP_FRAGMENT_UNSUPPORTED: 13,
  DROP_PROTOCOL_UNSUPPORTED: 14,
  DROP_REWRITE: 15,
  DROP_SERVICE_NO_BACKEND: 16,
  DROP_SERVICE_UNKNOWN_PORT: 17,
  DROP_SERVICE_STATE_LOST: 18,
  DROP_SERVICE_SOURCE_RANGE: 19,
  DROP_SERVICE_NOT_EXTERNAL: 20,
  DROP_TUNNEL_SOURCE: 21,
  DROP_TUNNEL_MALFORMED: 22,
  DROP_TUNNEL_NO_NODE: 23,
  DROP_TOO_BIG: 24,
  DROP_REASON_COUNT: 32,
} as const;

export const endpoint_flag = {
  ENDPOINT_HOST: 1,
  ENDPOINT_PEER: 2,
} as const;

export const event_type = {
  EVENT_NAT_PRESSURE: 0,
  EVENT_TABLE_FILL: 1,
  EVENT_HALF_LOST: 2,
  EVENT_COUNT: 3,
} as const;

export const flow_class = {
  FLOW_CLOSING: 0,
  FLOW_HALF_OPEN: 1,
  FLOW_UNANSWERED: 2,
  FLOW_ANSWERED: 3,
  FLOW_OPENING: 4,
  FLOW_ESTABLISHED: 5,
} as const;

export const hook = {
  HOOK_FROM_ENDPOINT: 0,
  HOOK_TO_ENDPOINT: 1,
  HOOK_FROM_NETDEV: 2,
  HOOK_TO_NETDEV: 3,
  HOOK_COUNT: 4,
} as const;

export const kind = {
  KIND_OUT: 0,
  KIND_IN: 1,
  KIND_RELATED: 2,
  KIND_SVC: 4,
} as const;

export const nat_class = {
  NAT_CLASS_SYN: 0,
  NAT_CLASS_ESTABLISHED: 1,
  NAT_CLASS_CLOSING: 2,
  NAT_CLASS_ANY: 3,
} as const;

export const nat_flag = {
  NAT_NEEDS_CT: 1,
  NAT_NODE_PORT: 2,
} as const;

export const nat_probe = {
  NAT_PROBES: 32,
  NAT_SCAN: 1024,
  NAT_ATTEMPT_SCANNED: 32,
  NAT_ATTEMPT_FAILED: 33,
  NAT_ATTEMPT_SLOTS: 34,
} as const;

export const prefix_flag = {
  PREFIX_NO_MASQUERADE: 1,
  PREFIX_LOCAL_PODS: 2,
} as const;

export const reap_limit = {
  REAP_BATCH: 4096,
} as const;

export const reap_mode = {
  REAP_EXPIRED: 0,
  REAP_FORCED: 1,
  REAP_LEAVING: 2,
  REAP_RELIEF: 3,
  REAP_COMPLETE: 4,
  REAP_CLAIMED: 5,
} as const;

export const restored = {
  RESTORED_FORWARD: 0,
  RESTORED_REVERSE: 1,
  RESTORED_ADOPTED: 2,
  RESTORED_COUNT: 3,
} as const;

export const service_count = {
  SERVICE_CONNECTIONS: 0,
  SERVICE_DROPS: 1,
  BACKEND_CONNECTIONS: 2,
} as const;

export const service_flag = {
  SERVICE_FROM_OUTSIDE: 1,
  SERVICE_AFFINITY: 2,
  SERVICE_SOURCE_RANGES: 4,
  SERVICE_DSR: 8,
  SERVICE_RANDOM: 16,
  SERVICE_TWO_SCOPES: 32,
  SERVICE_ANY_PORT: 64,
} as const;

export const service_scope = {
  SERVICE_EXTERNAL: 0,
  SERVICE_INTERNAL: 1,
} as const;

export const table = {
  TABLE_CT_TCP: 0,
  TABLE_CT_ANY: 1,
  TABLE_SNAT: 2,
  TABLE_COUNT: 3,
} as const;

export const table_slot = {
  TABLE_CURRENT: 0,
  TABLE_PREVIOUS: 1,
  TABLE_SLOTS: 2,
} as const;

export const update_error = {
  UPDATE_EBUSY: 0,
  UPDATE_ENOMEM: 1,
  UPDATE_E2BIG: 2,
  UPDATE_EDEADLK: 3,
  UPDATE_ETIMEDOUT: 4,
  UPDATE_OTHER: 5,
  UPDATE_ERROR_COUNT: 6,
} as const;

export const verdict = {
  VERDICT_PASS: 0,
  VERDICT_DELIVER: 1,
  VERDICT_FORWARD: 2,
  VERDICT_DROP: 3,
  VERDICT_COUNT: 4,
} as const;

export interface Affinity {
  backend_id: number;
  last_used: number;
}

export interface AffinityKey {
  client: Uint8Array;
  service_id: number;
}

export interface Backend {
  addr: Uint8Array;
  port: number;
  proto: number;
  state: number;
  service_id: number;
}

export interface BackendAddress {
  addr: Uint8Array;
  port: number;
  proto: number;
}

export interface BackendTable {
  backends: number[];
}

export interface BackendTableKey {
  service_id: number;
  scope: number;
}

export interface ClockSample {
  jiffies: bigint;
  monotonic_ns: bigint;
}

export interface Config {
  secret: bigint[];
  hz: number;
  timeout_tcp: number;
  timeout_tcp_syn: number;
  timeout_tcp_close: number;
  timeout_any: number;
  timeout_service_tcp: number;
  timeout_service_any: number;
  timeout_service_close: number;
  fill_step: number;
  masquerade: number;
  restore: number;
  fast_routing: number;
  accounting: number;
  fib_skip_neigh: number;
  csum_ipv6: number;
  interruptible: number;
}

export interface CopyArgs {
  table: number;
  count: number;
  copied: number;
  skipped: number;
  failed: number;
}

export interface CtEntry {
  expires: number;
  last_tx_report: number;
  last_rx_report: number;
  flags: number;
  tx_flags_seen: number;
  rx_flags_seen: number;
  nat_addr: Uint8Array;
  next_hop: Uint8Array;
  nat_port: number;
  seen: number;
  nat_class: number;
  rev_nat_index: number;
  nat_looked: number;
  src_identity: number;
  backend_id: number;
  next_ifindex: number;
  looked: number;
  packets: bigint;
  bytes: bigint;
}

export interface Device {
  addr: Uint8Array;
  port_min: number;
  port_max: number;
  flags: number;
  tunnel_addr: number;
}

export interface Endpoint {
  ifindex: number;
  id: number;
  identity: number;
  flags: number;
  mtu: number;
}

export interface Event {
  type: number;
  table: number;
}

export interface FamilyState {
  node_translated: number;
  pressure_told: number;
  loss_told: number;
  errors_second: number;
  errors_sent: number;
}

export interface NatEntry {
  addr: Uint8Array;
  port: number;
  class: number;
  flags: number;
  expires: number;
  created: number;
  rev_nat_index: number;
  touched: number;
}

export interface NatFull {
  until: number;
  scanned_until: number;
}

export interface NodeState {
  secret: bigint[];
  clock_delta_ns: bigint;
  hz: number;
}

export interface Prefix {
  identity: number;
  flags: number;
  tunnel: number;
}

export interface PrefixKey {
  prefixlen: number;
  addr: Uint8Array;
}

export interface ReapArgs {
  table: number;
  count: number;
  mode: number;
  classes: number;
  orphans: number;
  idle_until: number;
  now: number;
  deleted: number;
  skipped: number;
  nat_deleted: number;
  failed: number;
  completed: number;
}

export interface RevNat {
  addr: Uint8Array;
  port: number;
  service_id: number;
}

export interface Service {
  id: number;
  backends: number;
  affinity_timeout: number;
  rev_nat_index: number;
  flags: number;
}

export interface ServiceCountKey {
  id: number;
  kind: number;
  reason: number;
}

export interface ServiceKey {
  addr: Uint8Array;
  port: number;
  proto: number;
  scope: number;
}

export interface SourceRangeKey {
  prefixlen: number;
  service_id: number;
  addr: Uint8Array;
}

export interface Tuple {
  saddr: Uint8Array;
  daddr: Uint8Array;
  sport: number;
  dport: number;
  proto: number;
  kind: number;
}

export interface Layouts {
  readonly affinity: Layout<Affinity>;
  readonly affinity_key: Layout<AffinityKey>;
  readonly backend: Layout<Backend>;
  readonly backend_address: Layout<BackendAddress>;
  readonly backend_table: Layout<BackendTable>;
  readonly backend_table_key: Layout<BackendTableKey>;
  readonly clock_sample: Layout<ClockSample>;
  readonly config: Layout<Config>;
  readonly copy_args: Layout<CopyArgs>;
  readonly ct_entry: Layout<CtEntry>;
  readonly device: Layout<Device>;
  readonly endpoint: Layout<Endpoint>;
  readonly event: Layout<Event>;
  readonly family_state: Layout<FamilyState>;
  readonly nat_entry: Layout<NatEntry>;
  readonly nat_full: Layout<NatFull>;
  readonly node_state: Layout<NodeState>;
  readonly prefix: Layout<Prefix>;
  readonly prefix_key: Layout<PrefixKey>;
  readonly reap_args: Layout<ReapArgs>;
  readonly rev_nat: Layout<RevNat>;
  readonly service: Layout<Service>;
  readonly service_count_key: Layout<ServiceCountKey>;
  readonly service_key: Layout<ServiceKey>;
  readonly source_range_key: Layout<SourceRangeKey>;
  readonly tuple: Layout<Tuple>;
}

export const layouts: { readonly ipv4: Layouts; readonly ipv6: Layouts } = {
  ipv4: {
    affinity: {
      size: 8,
      fields: {
        backend_id: { offset: 0, size: 4, kind: 'u32' },
        last_used: { offset: 4, size: 4, kind: 'u32' },
      },
    },
    affinity_key: {
      size: 8,
      fields: {
        client: { offset: 0, size: 4, kind: 'bytes' },
        service_id: { offset: 4, size: 4, kind: 'u32' },
      },
    },
    backend: {
      size: 12,
      fields: {
        addr: { offset: 0, size: 4, kind: 'bytes' },
        port: { offset: 4, size: 2, kind: 'be16' },
        proto: { offset: 6, size: 1, kind: 'u8' },
        state: { offset: 7, size: 1, kind: 'u8' },
        service_id: { offset: 8, size: 4, kind: 'u32' },
      },
    },
    backend_address: {
      size: 8,
      fields: {
        addr: { offset: 0, size: 4, kind: 'bytes' },
        port: { offset: 4, size: 2, kind: 'be16' },
        proto: { offset: 6, size: 1, kind: 'u8' },
      },
    },
    backend_table: {
      size: 65524,
      fields: {
        backends: { offset: 0, size: 65524, kind: 'u32', count: 16381 },
      },
    },
    backend_table_key: {
      size: 8,
      fields: {
        service_id: { offset: 0, size: 4, kind: 'u32' },
        scope: { offset: 4, size: 4, kind: 'u32' },
      },
    },
    clock_sample: {
      size: 16,
      fields: {
        jiffies: { offset: 0, size: 8, kind: 'u64' },
        monotonic_ns: { offset: 8, size: 8, kind: 'u64' },
      },
    },
    config: {
      size: 64,
      fields: {
        secret: { offset: 0, size: 16, kind: 'u64', count: 2 },
        hz: { offset: 16, size: 4, kind: 'u32' },
        timeout_tcp: { offset: 20, size: 4, kind: 'u32' },
        timeout_tcp_syn: { offset: 24, size: 4, kind: 'u32' },
        timeout_tcp_close: { offset: 28, size: 4, kind: 'u32' },
        timeout_any: { offset: 32, size: 4, kind: 'u32' },
        timeout_service_tcp: { offset: 36, size: 4, kind: 'u32' },
        timeout_service_any: { offset: 40, size: 4, kind: 'u32' },
        timeout_service_close: { offset: 44, size: 4, kind: 'u32' },
        fill_step: { offset: 48, size: 4, kind: 'u32' },
        masquerade: { offset: 52, size: 1, kind: 'u8' },
        restore: { offset: 53, size: 1, kind: 'u8' },
        fast_routing: { offset: 54, size: 1, kind: 'u8' },
        accounting: { offset: 55, size: 1, kind: 'u8' },
        fib_skip_neigh: { offset: 56, size: 1, kind: 'u8' },
        csum_ipv6: { offset: 57, size: 1, kind: 'u8' },
        interruptible: { offset: 58, size: 1, kind: 'u8' },
      },
    },
    copy_args: {
      size: 20,
      fields: {
        table: { offset: 0, size: 4, kind: 'u32' },
        count: { offset: 4, size: 4, kind: 'u32' },
        copied: { offset: 8, size: 4, kind: 'u32' },
        skipped: { offset: 12, size: 4, kind: 'u32' },
        failed: { offset: 16, size: 4, kind: 'u32' },
      },
    },
    ct_entry: {
      size: 64,
      fields: {
        expires: { offset: 0, size: 4, kind: 'u32' },
        last_tx_report: { offset: 4, size: 4, kind: 'u32' },
        last_rx_report: { offset: 8, size: 4, kind: 'u32' },
        flags: { offset: 12, size: 2, kind: 'u16' },
        tx_flags_seen: { offset: 14, size: 1, kind: 'u8' },
        rx_flags_seen: { offset: 15, size: 1, kind: 'u8' },
        nat_addr: { offset: 16, size: 4, kind: 'bytes' },
        next_hop: { offset: 20, size: 4, kind: 'bytes' },
        nat_port: { offset: 24, size: 2, kind: 'be16' },
        seen: { offset: 26, size: 1, kind: 'u8' },
        nat_class: { offset: 27, size: 1, kind: 'u8' },
        rev_nat_index: { offset: 28, size: 2, kind: 'u16' },
        nat_looked: { offset: 30, size: 2, kind: 'u16' },
        src_identity: { offset: 32, size: 4, kind: 'u32' },
        backend_id: { offset: 36, size: 4, kind: 'u32' },
        next_ifindex: { offset: 40, size: 4, kind: 'u32' },
        looked: { offset: 44, size: 4, kind: 'u32' },
        packets: { offset: 48, size: 8, kind: 'u64' },
        bytes: { offset: 56, size: 8, kind: 'u64' },
      },
    },
    device: {
      size: 16,
      fields: {
        addr: { offset: 0, size: 4, kind: 'bytes' },
        port_min: { offset: 4, size: 2, kind: 'u16' },
        port_max: { offset: 6, size: 2, kind: 'u16' },
        flags: { offset: 8, size: 4, kind: 'u32' },
        tunnel_addr: { offset: 12, size: 4, kind: 'be32' },
      },
    },
    endpoint: {
      size: 20,
      fields: {
        ifindex: { offset: 0, size: 4, kind: 'u32' },
        id: { offset: 4, size: 4, kind: 'u32' },
        identity: { offset: 8, size: 4, kind: 'u32' },
        flags: { offset: 12, size: 4, kind: 'u32' },
        mtu: { offset: 16, size: 4, kind: 'u32' },
      },
    },
    event: {
      size: 8,
      fields: {
        type: { offset: 0, size: 4, kind: 'u32' },
        table: { offset: 4, size: 4, kind: 'u32' },
      },
    },
    family_state: {
      size: 20,
      fields: {
        node_translated: { offset: 0, size: 4, kind: 'u32' },
        pressure_told: { offset: 4, size: 4, kind: 'u32' },
        loss_told: { offset: 8, size: 4, kind: 'u32' },
        errors_second: { offset: 12, size: 4, kind: 'u32' },
        errors_sent: { offset: 16, size: 4, kind: 'u32' },
      },
    },
    nat_entry: {
      size: 20,
      fields: {
        addr: { offset: 0, size: 4, kind: 'bytes' },
        port: { offset: 4, size: 2, kind: 'be16' },
        class: { offset: 6, size: 1, kind: 'u8' },
        flags: { offset: 7, size: 1, kind: 'u8' },
        expires: { offset: 8, size: 4, kind: 'u32' },
        created: { offset: 12, size: 4, kind: 'u32' },
        rev_nat_index: { offset: 16, size: 2, kind: 'u16' },
        touched: { offset: 18, size: 2, kind: 'u16' },
      },
    },
    nat_full: {
      size: 8,
      fields: {
        until: { offset: 0, size: 4, kind: 'u32' },
        scanned_until: { offset: 4, size: 4, kind: 'u32' },
      },
    },
    node_state: {
      size: 32,
      fields: {
        secret: { offset: 0, size: 16, kind: 'u64', count: 2 },
        clock_delta_ns: { offset: 16, size: 8, kind: 's64' },
        hz: { offset: 24, size: 4, kind: 'u32' },
      },
    },
    prefix: {
      size: 12,
      fields: {
        identity: { offset: 0, size: 4, kind: 'u32' },
        flags: { offset: 4, size: 4, kind: 'u32' },
        tunnel: { offset: 8, size: 4, kind: 'be32' },
      },
    },
    prefix_key: {
      size: 8,
      fields: {
        prefixlen: { offset: 0, size: 4, kind: 'u32' },
        addr: { offset: 4, size: 4, kind: 'bytes' },
      },
    },
    reap_args: {
      size: 48,
      fields: {
        table: { offset: 0, size: 4, kind: 'u32' },
        count: { offset: 4, size: 4, kind: 'u32' },
        mode: { offset: 8, size: 4, kind: 'u32' },
        classes: { offset: 12, size: 4, kind: 'u32' },
        orphans: { offset: 16, size: 4, kind: 'u32' },
        idle_until: { offset: 20, size: 4, kind: 'u32' },
        now: { offset: 24, size: 4, kind: 'u32' },
        deleted: { offset: 28, size: 4, kind: 'u32' },
        skipped: { offset: 32, size: 4, kind: 'u32' },
        nat_deleted: { offset: 36, size: 4, kind: 'u32' },
        failed: { offset: 40, size: 4, kind: 'u32' },
        completed: { offset: 44, size: 4, kind: 'u32' },
      },
    },
    rev_nat: {
      size: 12,
      fields: {
        addr: { offset: 0, size: 4, kind: 'bytes' },
        port: { offset: 4, size: 2, kind: 'be16' },
        service_id: { offset: 8, size: 4, kind: 'u32' },
      },
    },
    service: {
      size: 16,
      fields: {
        id: { offset: 0, size: 4, kind: 'u32' },
        backends: { offset: 4, size: 4, kind: 'u32' },
        affinity_timeout: { offset: 8, size: 4, kind: 'u32' },
        rev_nat_index: { offset: 12, size: 2, kind: 'u16' },
        flags: { offset: 14, size: 2, kind: 'u16' },
      },
    },
    service_count_key: {
      size: 8,
      fields: {
        id: { offset: 0, size: 4, kind: 'u32' },
        kind: { offset: 4, size: 2, kind: 'u16' },
        reason: { offset: 6, size: 2, kind: 'u16' },
      },
    },
    service_key: {
      size: 8,
      fields: {
        addr: { offset: 0, size: 4, kind: 'bytes' },
        port: { offset: 4, size: 2, kind: 'be16' },
        proto: { offset: 6, size: 1, kind: 'u8' },
        scope: { offset: 7, size: 1, kind: 'u8' },
      },
    },
    source_range_key: {
      size: 12,
      fields: {
        prefixlen: { offset: 0, size: 4, kind: 'u32' },
        service_id: { offset: 4, size: 4, kind: 'u32' },
        addr: { offset: 8, size: 4, kind: 'bytes' },
      },
    },
    tuple: {
      size: 16,
      fields: {
        saddr: { offset: 0, size: 4, kind: 'bytes' },
        daddr: { offset: 4, size: 4, kind: 'bytes' },
        sport: { offset: 8, size: 2, kind: 'be16' },
        dport: { offset: 10, size: 2, kind: 'be16' },
        proto: { offset: 12, size: 1, kind: 'u8' },
        kind: { offset: 13, size: 1, kind: 'u8' },
      },
    },
  },
  ipv6: {
    affinity: {
      size: 8,
      fields: {
        backend_id: { offset: 0, size: 4, kind: 'u32' },
        last_used: { offset: 4, size: 4, kind: 'u32' },
      },
    },
    affinity_key: {
      size: 20,
      fields: {
        client: { offset: 0, size: 16, kind: 'bytes' },
        service_id: { offset: 16, size: 4, kind: 'u32' },
      },
    },
    backend: {
      size: 24,
      fields: {
        addr: { offset: 0, size: 16, kind: 'bytes' },
        port: { offset: 16, size: 2, kind: 'be16' },
        proto: { offset: 18, size: 1, kind: 'u8' },
        state: { offset: 19, size: 1, kind: 'u8' },
        service_id: { offset: 20, size: 4, kind: 'u32' },
      },
    },
    backend_address: {
      size: 20,
      fields: {
        addr: { offset: 0, size: 16, kind: 'bytes' },
        port: { offset: 16, size: 2, kind: 'be16' },
        proto: { offset: 18, size: 1, kind: 'u8' },
      },
    },
    backend_table: {
      size: 65524,
      fields: {
        backends: { offset: 0, size: 65524, kind: 'u32', count: 16381 },
      },
    },
    backend_table_key: {
      size: 8,
      fields: {
        service_id: { offset: 0, size: 4, kind: 'u32' },
        scope: { offset: 4, size: 4, kind: 'u32' },
      },
    },
    clock_sample: {
      size: 16,
      fields: {
        jiffies: { offset: 0, size: 8, kind: 'u64' },
        monotonic_ns: { offset: 8, size: 8, kind: 'u64' },
      },
    },
    config: {
      size: 64,
      fields: {
        secret: { offset: 0, size: 16, kind: 'u64', count: 2 },
        hz: { offset: 16, size: 4, kind: 'u32' },
        timeout_tcp: { offset: 20, size: 4, kind: 'u32' },
        timeout_tcp_syn: { offset: 24, size: 4, kind: 'u32' },
        timeout_tcp_close: { offset: 28, size: 4, kind: 'u32' },
        timeout_any: { offset: 32, size: 4, kind: 'u32' },
        timeout_service_tcp: { offset: 36, size: 4, kind: 'u32' },
        timeout_service_any: { offset: 40, size: 4, kind: 'u32' },
        timeout_service_close: { offset: 44, size: 4, kind: 'u32' },
        fill_step: { offset: 48, size: 4, kind: 'u32' },
        masquerade: { offset: 52, size: 1, kind: 'u8' },
        restore: { offset: 53, size: 1, kind: 'u8' },
        fast_routing: { offset: 54, size: 1, kind: 'u8' },
        accounting: { offset: 55, size: 1, kind: 'u8' },
        fib_skip_neigh: { offset: 56, size: 1, kind: 'u8' },
        csum_ipv6: { offset: 57, size: 1, kind: 'u8' },
        interruptible: { offset: 58, size: 1, kind: 'u8' },
      },
    },
    copy_args: {
      size: 20,
      fields: {
        table: { offset: 0, size: 4, kind: 'u32' },
        count: { offset: 4, size: 4, kind: 'u32' },
        copied: { offset: 8, size: 4, kind: 'u32' },
        skipped: { offset: 12, size: 4, kind: 'u32' },
        failed: { offset: 16, size: 4, kind: 'u32' },
      },
    },
    ct_entry: {
      size: 88,
      fields: {
        expires: { offset: 0, size: 4, kind: 'u32' },
        last_tx_report: { offset: 4, size: 4, kind: 'u32' },
        last_rx_report: { offset: 8, size: 4, kind: 'u32' },
        flags: { offset: 12, size: 2, kind: 'u16' },
        tx_flags_seen: { offset: 14, size: 1, kind: 'u8' },
        rx_flags_seen: { offset: 15, size: 1, kind: 'u8' },
        nat_addr: { offset: 16, size: 16, kind: 'bytes' },
        next_hop: { offset: 32, size: 16, kind: 'bytes' },
        nat_port: { offset: 48, size: 2, kind: 'be16' },
        seen: { offset: 50, size: 1, kind: 'u8' },
        nat_class: { offset: 51, size: 1, kind: 'u8' },
        rev_nat_index: { offset: 52, size: 2, kind: 'u16' },
        nat_looked: { offset: 54, size: 2, kind: 'u16' },
        src_identity: { offset: 56, size: 4, kind: 'u32' },
        backend_id: { offset: 60, size: 4, kind: 'u32' },
        next_ifindex: { offset: 64, size: 4, kind: 'u32' },
        looked: { offset: 68, size: 4, kind: 'u32' },
        packets: { offset: 72, size: 8, kind: 'u64' },
        bytes: { offset: 80, size: 8, kind: 'u64' },
      },
    },
    device: {
      size: 28,
      fields: {
        addr: { offset: 0, size: 16, kind: 'bytes' },
        port_min: { offset: 16, size: 2, kind: 'u16' },
        port_max: { offset: 18, size: 2, kind: 'u16' },
        flags: { offset: 20, size: 4, kind: 'u32' },
        tunnel_addr: { offset: 24, size: 4, kind: 'be32' },
      },
    },
    endpoint: {
      size: 20,
      fields: {
        ifindex: { offset: 0, size: 4, kind: 'u32' },
        id: { offset: 4, size: 4, kind: 'u32' },
        identity: { offset: 8, size: 4, kind: 'u32' },
        flags: { offset: 12, size: 4, kind: 'u32' },
        mtu: { offset: 16, size: 4, kind: 'u32' },
      },
    },
    event: {
      size: 8,
      fields: {
        type: { offset: 0, size: 4, kind: 'u32' },
        table: { offset: 4, size: 4, kind: 'u32' },
      },
    },
    family_state: {
      size: 20,
      fields: {
        node_translated: { offset: 0, size: 4, kind: 'u32' },
        pressure_told: { offset: 4, size: 4, kind: 'u32' },
        loss_told: { offset: 8, size: 4, kind: 'u32' },
        errors_second: { offset: 12, size: 4, kind: 'u32' },
        errors_sent: { offset: 16, size: 4, kind: 'u32' },
      },
    },
    nat_entry: {
      size: 32,
      fields: {
        addr: { offset: 0, size: 16, kind: 'bytes' },
        port: { offset: 16, size: 2, kind: 'be16' },
        class: { offset: 18, size: 1, kind: 'u8' },
        flags: { offset: 19, size: 1, kind: 'u8' },
        expires: { offset: 20, size: 4, kind: 'u32' },
        created: { offset: 24, size: 4, kind: 'u32' },
        rev_nat_index: { offset: 28, size: 2, kind: 'u16' },
        touched: { offset: 30, size: 2, kind: 'u16' },
      },
    },
    nat_full: {
      size: 8,
      fields: {
        until: { offset: 0, size: 4, kind: 'u32' },
        scanned_until: { offset: 4, size: 4, kind: 'u32' },
      },
    },
    node_state: {
      size: 32,
      fields: {
        secret: { offset: 0, size: 16, kind: 'u64', count: 2 },
        clock_delta_ns: { offset: 16, size: 8, kind: 's64' },
        hz: { offset: 24, size: 4, kind: 'u32' },
      },
    },
    prefix: {
      size: 12,
      fields: {
        identity: { offset: 0, size: 4, kind: 'u32' },
        flags: { offset: 4, size: 4, kind: 'u32' },
        tunnel: { offset: 8, size: 4, kind: 'be32' },
      },
    },
    prefix_key: {
      size: 20,
      fields: {
        prefixlen: { offset: 0, size: 4, kind: 'u32' },
        addr: { offset: 4, size: 16, kind: 'bytes' },
      },
    },
    reap_args: {
      size: 48,
      fields: {
        table: { offset: 0, size: 4, kind: 'u32' },
        count: { offset: 4, size: 4, kind: 'u32' },
        mode: { offset: 8, size: 4, kind: 'u32' },
        classes: { offset: 12, size: 4, kind: 'u32' },
        orphans: { offset: 16, size: 4, kind: 'u32' },
        idle_until: { offset: 20, size: 4, kind: 'u32' },
        now: { offset: 24, size: 4, kind: 'u32' },
        deleted: { offset: 28, size: 4, kind: 'u32' },
        skipped: { offset: 32, size: 4, kind: 'u32' },
        nat_deleted: { offset: 36, size: 4, kind: 'u32' },
        failed: { offset: 40, size: 4, kind: 'u32' },
        completed: { offset: 44, size: 4, kind: 'u32' },
      },
    },
    rev_nat: {
      size: 24,
      fields: {
        addr: { offset: 0, size: 16, kind: 'bytes' },
        port: { offset: 16, size: 2, kind: 'be16' },
        service_id: { offset: 20, size: 4, kind: 'u32' },
      },
    },
    service: {
      size: 16,
      fields: {
        id: { offset: 0, size: 4, kind: 'u32' },
        backends: { offset: 4, size: 4, kind: 'u32' },
        affinity_timeout: { offset: 8, size: 4, kind: 'u32' },
        rev_nat_index: { offset: 12, size: 2, kind: 'u16' },
        flags: { offset: 14, size: 2, kind: 'u16' },
      },
    },
    service_count_key: {
      size: 8,
      fields: {
        id: { offset: 0, size: 4, kind: 'u32' },
        kind: { offset: 4, size: 2, kind: 'u16' },
        reason: { offset: 6, size: 2, kind: 'u16' },
      },
    },
    service_key: {
      size: 20,
      fields: {
        addr: { offset: 0, size: 16, kind: 'bytes' },
        port: { offset: 16, size: 2, kind: 'be16' },
        proto: { offset: 18, size: 1, kind: 'u8' },
        scope: { offset: 19, size: 1, kind: 'u8' },
      },
    },
    source_range_key: {
      size: 24,
      fields: {
        prefixlen: { offset: 0, size: 4, kind: 'u32' },
        service_id: { offset: 4, size: 4, kind: 'u32' },
        addr: { offset: 8, size: 16, kind: 'bytes' },
      },
    },
    tuple: {
      size: 40,
      fields: {
        saddr: { offset: 0, size: 16, kind: 'bytes' },
        daddr: { offset: 16, size: 16, kind: 'bytes' },
        sport: { offset: 32, size: 2, kind: 'be16' },
        dport: { offset: 34, size: 2, kind: 'be16' },
        proto: { offset: 36, size: 1, kind: 'u8' },
        kind: { offset: 37, size: 1, kind: 'u8' },
      },
    },
  },
};
