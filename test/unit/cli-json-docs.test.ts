import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { decode } from '../../agent/abi/codec.ts';
import { layouts } from '../../agent/abi/generated.ts';
import { describeBackend } from '../../agent/cli/backend-view.ts';
import { countConntrack } from '../../agent/cli/ct-count.ts';
import { conntrackJson } from '../../agent/cli/ct-format.ts';
import { describeTable } from '../../agent/cli/maglev-view.ts';
import { natJson } from '../../agent/cli/nat-format.ts';
import { countPorts } from '../../agent/cli/nat-ports.ts';
import { detailOf } from '../../agent/cli/service-detail.ts';
import { summarizeServices } from '../../agent/cli/service-summary.ts';
import { describeService } from '../../agent/cli/service-view.ts';
import { reportStatus } from '../../agent/cli/status-report.ts';
import { noStates } from '../../agent/tables/backend-states.ts';

const text = readFileSync(new URL('../../docs/json.md', import.meta.url), 'utf8');
const { tuple, ct_entry, nat_entry } = layouts.ipv4;
const FLOW = { ...decode(tuple, new Uint8Array(tuple.size)), kind: 1 };
const CT = decode(ct_entry, new Uint8Array(ct_entry.size));
const NAT = decode(nat_entry, new Uint8Array(nat_entry.size));

/** Words in code type under a heading of docs/json.md, and those of every flow. */
function documented(command: string): Set<string> {
  const section = (heading: string) =>
    text.split(/^## /m).find((part) => part.startsWith(heading)) ?? '';
  const words = `${section(`\`${command}\``)} ${section('Fields of a flow')}`;
  return new Set(
    [...words.matchAll(/`([^`]+)`/g)].flatMap(([, code]) => code?.match(/\w+/g) ?? []),
  );
}

const ports = countPorts(() => 1, undefined);
ports.add(FLOW, NAT);
const counts = countConntrack(undefined);
counts.add(FLOW, CT);
const idle = reportStatus({
  daemon: undefined,
  attachments: [],
  devices: [2],
  endpoints: [],
  names: new Map([[2, 'eth0']]),
  maps: [],
  drops: [{ family: 'ipv4', hook: 'to_netdev', reason: 'nat_full', packets: 3 }],
  services: summarizeServices([]),
  capabilities: undefined,
});

const family = 'ipv4' as const;
const place = { address: '10.0.1.10', port: 8000, protocol: 'TCP' };
const backend = describeBackend(
  { ...place, id: 1, family, serviceId: 1, state: 'active' },
  undefined,
  0,
);
const service = describeService(
  {
    ...{ id: 1, family, protocol: 'TCP', flags: 0, affinitySeconds: 0 },
    ...{
      frontends: [{ ...place, revNat: 1, external: true }],
      eligible: { external: 1, internal: 1 },
    },
    states: noStates(),
  },
  undefined,
);
const share = { external: 100, internal: 100 };
const detail = detailOf(
  [{ service, backends: [{ ...backend, share }], sourceRanges: [], connections: 0, drops: {} }],
  undefined,
);
const table = describeTable(service, [backend], { scope: 'both', table: Uint32Array.of(1) });

const documents: Record<string, object | undefined> = {
  'ct list': conntrackJson(FLOW, CT),
  'nat list': natJson(FLOW, NAT),
  'nat ports': ports.uses().next().value ?? undefined,
  'ct count': counts.counts()[0],
  'service list': { ...service, ...service.frontends[0], ...service.eligible, ...service.backends },
  'service get': { ...detail, ...detail.frontends[0], ...detail.backends[0]?.share },
  'backend list': backend,
  'maglev show': { ...table, ...table.backends[0] },
  status: { ...idle, ...idle.hooks[0], ...idle.services },
};

describe('docs/json.md', () => {
  for (const [command, document] of Object.entries(documents)) {
    it(`names every field of ${command}`, () => {
      assert.ok(document);
      const known = documented(command);
      assert.deepEqual(
        Object.keys(document).filter((field) => !known.has(field)),
        [],
      );
    });
  }
});

describe('the status report', () => {
  it('misses the hooks that a device should have', () => {
    assert.equal(idle.healthy, false);
    assert.deepEqual(idle.problems.toSorted(), [
      'from_netdev of ipv4 is not attached to eth0',
      'from_netdev of ipv6 is not attached to eth0',
      'the agent is not running',
      'to_netdev of ipv4 is not attached to eth0',
      'to_netdev of ipv6 is not attached to eth0',
    ]);
  });
});
