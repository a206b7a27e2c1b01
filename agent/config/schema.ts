import { z } from 'zod';
import { serviceSchema } from './service-schema.ts';
import {
  absolutePath,
  address,
  autoOr,
  duration,
  flag,
  integer,
  interfaceName,
  listenAddress,
  objectName,
  oneOf,
  port,
  prefix,
  ratio,
  unicast,
} from './values.ts';

const MIN_ENTRIES = 1_024;
const MAX_ENTRIES = 16_777_216;

const node = z.strictObject({
  name: objectName('node-a').optional().describe('Name of this node. Default: the hostname.'),
  devices: z
    .array(interfaceName())
    .prefault([])
    .describe('North-south devices, all Ethernet. Empty: the devices of the default routes.'),
  podCIDRs: z
    .array(prefix('10.0.1.0/24'))
    .prefault([])
    .describe("This node's pod ranges: devices drop a source in them that no endpoint has."),
  nodePortAddresses: z
    .array(address('192.168.1.5'))
    .prefault([])
    .describe('Addresses that serve node ports. Empty: every address on the devices.'),
});

const clusterNode = z.strictObject({
  name: objectName('node-b').describe('Name of the other node.'),
  address: unicast('192.168.1.6').describe('Where it is reached.'),
  podCIDRs: z
    .array(prefix('10.0.2.0/24'))
    .prefault([])
    .describe('Its pod ranges: reached without masquerade.'),
});

const cluster = z.strictObject({
  nodes: z.array(clusterNode).prefault([]).describe('The other nodes.'),
});

const masquerade = z.strictObject({
  enabled: flag().prefault(true).describe('Translate the source of what leaves the node.'),
  exclude: z
    .array(prefix())
    .prefault([])
    .describe('Destinations that are never masqueraded (native routing).'),
  addresses: z
    .array(unicast('192.168.1.5'))
    .prefault([])
    .describe("Egress addresses. Empty: the device's first global one of each family."),
  ports: z
    .strictObject({
      min: port(32_768).prefault(32_768).describe('First port of the NAT range.'),
      max: port(65_535).prefault(65_535).describe('Last port of the NAT range.'),
    })
    .prefault({})
    .describe('Ports that translated flows leave from, both ends included.'),
  restore: flag()
    .prefault(true)
    .describe('Bring back a lost half of a NAT pair; false only to see what it is for.'),
});

const datapath = z.strictObject({
  routing: oneOf(['fast', 'stack'])
    .prefault('fast')
    .describe('fast: redirect between interfaces; stack: leave forwarding to the kernel.'),
  attach: oneOf(['auto', 'tcx', 'tc'])
    .prefault('auto')
    .describe('How programs are attached; auto takes TCX where the kernel has it.'),
});

const endpoint = z.strictObject({
  name: objectName('web-1').describe('Name of the endpoint.'),
  interface: interfaceName('lxc-web-1').describe("Host side of the endpoint's link; Ethernet."),
  addresses: z
    .array(unicast())
    .min(1, { error: 'expected at least one IP address' })
    .describe('Addresses of the endpoint.'),
});

const conntrack = z.strictObject({
  timeouts: z
    .strictObject({
      tcp: duration().prefault('2h13m20s').describe('Established TCP.'),
      tcpSyn: duration().prefault('60s').describe('TCP not yet seen in both directions.'),
      tcpClose: duration().prefault('10s').describe('TCP closed in both directions.'),
      any: duration().prefault('60s').describe('Everything that is not TCP.'),
      serviceTcp: duration().prefault('2h13m20s').describe('TCP to a service.'),
      serviceAny: duration().prefault('60s').describe('The rest to a service.'),
      serviceClose: duration().prefault('60s').describe('Closed TCP to a service.'),
    })
    .prefault({})
    .describe('How long an idle connection is remembered.'),
  accounting: flag().prefault(false).describe('Count packets and bytes of every entry.'),
});

const gc = z.strictObject({
  interval: autoOr(duration(), 'a duration from 1s to 8760h')
    .prefault('auto')
    .meta({ examples: ['5m'] })
    .describe('Time between passes; auto follows what passes find, from 5 minutes on.'),
  min: duration().prefault('10s').describe('Shortest automatic interval.'),
  max: duration().prefault('12h').describe('Longest automatic interval.'),
});

const maps = z.strictObject({
  memoryRatio: ratio(0.0025)
    .prefault(0.0025)
    .describe('Share of the memory that automatic sizes take, all tables together.'),
  maxMemoryRatio: ratio(0.02)
    .prefault(0.02)
    .describe('Share of the memory that all tables may grow to.'),
  ctTcp: tableSize().describe('Entries of the TCP connection table, each family.'),
  ctAny: tableSize().describe('Entries of the other connection table, each family.'),
  nat: tableSize().describe('Entries of the NAT table, each family; at most ctTcp + ctAny.'),
});

/** The whole file. Input is what the user writes; output has every default and seconds. */
export const configSchema = z
  .strictObject({
    node: node.prefault({}).describe('This node.'),
    cluster: cluster.prefault({}).describe('The nodes around it.'),
    masquerade: masquerade.prefault({}).describe('Source NAT of outgoing traffic.'),
    datapath: datapath.prefault({}).describe('How packets travel.'),
    endpoints: z.array(endpoint).prefault([]).describe('Local pods, containers and VMs.'),
    services: z
      .array(serviceSchema)
      .prefault([])
      .describe('Services: one address in front of many backends.'),
    conntrack: conntrack.prefault({}).describe('Connection tracking.'),
    gc: gc.prefault({}).describe('Garbage collection.'),
    maps: maps.prefault({}).describe('Sizes of the tables.'),
    metrics: z
      .strictObject({
        listen: listenAddress('127.0.0.1:9964')
          .prefault('127.0.0.1:9964')
          .describe('Where /metrics, /healthz and /readyz are served.'),
      })
      .prefault({})
      .describe('Metrics and probes.'),
    log: z
      .strictObject({
        level: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
          .prefault('info')
          .describe('Least severe level that is written.'),
      })
      .prefault({})
      .describe('Logs of the daemon.'),
    state: z
      .strictObject({
        bpffs: absolutePath('/sys/fs/bpf/sekisho')
          .prefault('/sys/fs/bpf/sekisho')
          .describe('Directory of the pins, on a BPF file system.'),
        runDir: absolutePath('/run/sekisho')
          .prefault('/run/sekisho')
          .describe('Directory of the socket and the lock.'),
      })
      .prefault({})
      .describe('Where state lives.'),
  })
  .meta({ title: 'Sekisho configuration' });

type ParsedConfig = z.output<typeof configSchema>;

/** A service of the file that is left out, and why. */
export interface RejectedService {
  /** Empty where it has none that can be read. */
  name: string;
  reason: string;
}

/** A valid configuration: every default filled in, durations in seconds, addresses as text. */
export type Config = Omit<ParsedConfig, 'node'> & {
  node: Omit<ParsedConfig['node'], 'name'> & { name: string };
  rejectedServices?: readonly RejectedService[];
};

/** JSON Schema (draft 2020-12) of the file, for editors. */
export function configJsonSchema(): Record<string, unknown> {
  return { ...z.toJSONSchema(configSchema, { io: 'input' }) };
}

function tableSize() {
  return autoOr(
    integer(MIN_ENTRIES, MAX_ENTRIES, 524_288),
    `a whole number from ${MIN_ENTRIES} to ${MAX_ENTRIES}`,
  )
    .prefault('auto')
    .meta({ examples: [524_288] });
}
