import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { service_flag } from '../../agent/abi/generated.ts';
import { backendCells, describeBackend } from '../../agent/cli/backend-view.ts';
import { indexServices } from '../../agent/cli/known-services.ts';
import { describeTable, tablesText } from '../../agent/cli/maglev-view.ts';
import { chooseService } from '../../agent/cli/service-choice.ts';
import { detailLines, detailOf } from '../../agent/cli/service-detail.ts';
import { serviceRows } from '../../agent/cli/service-lines.ts';
import type { PinnedService } from '../../agent/cli/service-pins.ts';
import { summarizeServices, summaryWords } from '../../agent/cli/service-summary.ts';
import { describeAbsent, describeInvalid, describeService } from '../../agent/cli/service-view.ts';
import type { ServiceView } from '../../agent/services/view.ts';
import { noStates } from '../../agent/tables/backend-states.ts';

const FRONTEND = { address: '172.190.0.17', port: 80, protocol: 'TCP' };

/** The load balancer of the reference's trace C. */
const PINNED: PinnedService = {
  id: 24,
  family: 'ipv4',
  protocol: 'TCP',
  frontends: [{ ...FRONTEND, revNat: 24, external: true }],
  flags: service_flag.SERVICE_FROM_OUTSIDE | service_flag.SERVICE_DSR,
  affinitySeconds: 0,
  eligible: { external: 1, internal: 1 },
  states: { ...noStates(), active: 1, terminating: 2 },
};
const BACKEND = {
  id: 24,
  family: 'ipv4' as const,
  serviceId: 24,
  address: '10.64.0.39',
  port: 8000,
  protocol: 'TCP',
  state: 'active' as const,
};
const WEB: ServiceView = {
  name: 'web',
  type: 'LoadBalancer',
  source: 'config',
  id: 24,
  ids: [24],
  state: 'applied',
  problems: [],
  frontends: [],
  nodePort: 30_001,
  backends: [
    {
      ...{ id: 24, service: 'web', serviceId: 24, address: '10.64.0.39', port: 8000 },
      ...{ protocol: 'TCP', weight: 3, state: 'active', local: false, connections: 0 },
    },
  ],
  algorithm: 'maglev',
  externalTrafficPolicy: 'Cluster',
  internalTrafficPolicy: 'Local',
  sessionAffinity: null,
  forwarding: 'dsr',
  sourceRanges: [],
  connections: 0,
  drops: {},
};
const known = indexServices([WEB]);

describe('a service in a listing', () => {
  it('has a line for each frontend, with how many of its backends take connections', () => {
    assert.deepEqual(serviceRows(describeService(PINNED, WEB)), [
      [24, 'web', 'LoadBalancer', '172.190.0.17:80/TCP', 24, '1/3', 'dsr', 'ready'],
    ]);
    const two = {
      ...PINNED,
      frontends: [...PINNED.frontends, { ...FRONTEND, revNat: 25, external: false }],
    };
    assert.equal(serviceRows(describeService(two, WEB)).length, 2);
  });

  it('shows what only the daemon knows as a dash without it', () => {
    const [line] = serviceRows(describeService(PINNED, undefined));
    assert.deepEqual(line?.slice(0, 3), [24, '-', '-']);
  });

  it('says where pods have other backends than the network, and where there are none', () => {
    const local = describeService({ ...PINNED, eligible: { external: 0, internal: 1 } }, WEB);
    assert.equal(serviceRows(local)[0]?.[5], '0/3 (pods 1/3)');
    assert.equal(local.state, 'ready');
    const none = describeService({ ...PINNED, eligible: { external: 0, internal: 0 } }, WEB);
    assert.equal(serviceRows(none)[0]?.[7], 'no_backend');
  });

  it('that was rejected says why', () => {
    const problems = ['10.0.1.10 is inside a pod range'];
    const rejected = describeAbsent({ ...WEB, ids: [], state: 'rejected', problems });
    assert.deepEqual(serviceRows(rejected), [
      ...[['-', 'web', 'LoadBalancer', '-', '-', '0/1', 'dsr', `rejected: ${problems[0]}`]],
    ]);
  });

  it('has IPv6 addresses in brackets', () => {
    const frontends = [{ ...FRONTEND, address: 'fd00:10::1', revNat: 1, external: true }];
    const [line] = serviceRows(describeService({ ...PINNED, frontends }, WEB));
    assert.equal(line?.[3], '[fd00:10::1]:80/TCP');
  });
});

describe('a service on the command line', () => {
  it('is found by its name, or by its number', () => {
    assert.deepEqual(chooseService('web', known), { ids: [24], known: WEB });
    assert.deepEqual(chooseService('24', known), { ids: [24], known: WEB });
    assert.deepEqual(chooseService('25', known), { ids: [25], known: undefined });
  });

  it('may be called by digits', () => {
    const named = indexServices([WEB, { ...WEB, name: '24', ids: [7] }]);
    assert.deepEqual(chooseService('24', named).ids, [7]);
  });

  it('that nobody knows is an error with a hint', () => {
    assert.throws(() => chooseService('wep', known), { code: 'E_NOT_FOUND' });
    const partial = { ...indexServices([]), isComplete: false };
    assert.throws(() => chooseService('web', partial), {
      code: 'E_NOT_RUNNING',
      hint: /give the number/,
    });
  });
});

describe('service get', () => {
  const part = {
    service: describeService(PINNED, WEB),
    backends: [{ ...describeBackend(BACKEND, known, 7), share: { external: 100, internal: 100 } }],
    sourceRanges: [],
    connections: 9,
    drops: { service_no_backend: 2 },
  };

  it('prints frontends, backends with their share, and what was counted', () => {
    assert.deepEqual(detailLines(detailOf([part], WEB)), [
      'Service      web',
      'Type         LoadBalancer, from the configuration',
      'State        ready',
      'Node port    30001',
      'Algorithm    maglev',
      'Forwarding   dsr',
      'Policies     external Cluster, internal Local',
      'Affinity     none',
      'Let in       everybody',
      'Connections  9',
      'Drops        service_no_backend 2',
      '',
      'SERVICE  REVNAT  FRONTEND             FOR',
      '     24      24  172.190.0.17:80/TCP  everybody',
      '',
      'ID  BACKEND              STATE   WEIGHT  SHARE   CONNECTIONS',
      '24  10.64.0.39:8000/TCP  active       3  100.0%            7',
    ]);
  });

  it('adds up what its parts counted: one for each family and protocol', () => {
    const udp = { ...part, service: { ...part.service, id: 25, protocol: 'UDP' } };
    const detail = detailOf([part, { ...udp, drops: { service_no_backend: 1, too_big: 3 } }], WEB);
    assert.deepEqual(detail.ids, [24, 25]);
    assert.equal(detail.connections, 18);
    assert.deepEqual(detail.drops, { service_no_backend: 3, too_big: 3 });
    assert.deepEqual(
      detail.frontends.map(({ serviceId }) => serviceId),
      [24, 25],
    );
  });

  it('shows the share of pods beside that of the network where they differ', () => {
    const [backend] = part.backends;
    assert.ok(backend);
    const split = { ...part, backends: [{ ...backend, share: { external: 0, internal: 100 } }] };
    assert.deepEqual(detailLines(detailOf([split], WEB)).slice(-2), [
      'ID  BACKEND              STATE   WEIGHT  SHARE  SHARE OF PODS  CONNECTIONS',
      '24  10.64.0.39:8000/TCP  active       3  0.0%   100.0%                   7',
    ]);
  });
});

describe('a backend in a listing', () => {
  it('names its service, or the number of it', () => {
    assert.deepEqual(backendCells(describeBackend(BACKEND, known, 7)), [
      ...[24, 'web', '10.64.0.39:8000/TCP', 'active', 3, 7],
    ]);
    assert.deepEqual(backendCells(describeBackend(BACKEND, undefined, 0)), [
      ...[24, '#24', '10.64.0.39:8000/TCP', 'active', '-', 0],
    ]);
  });
});

describe('maglev show', () => {
  const service = describeService(PINNED, WEB);
  const table = Uint32Array.of(24, 9, 24, 24);
  const shown = describeTable(service, [describeBackend(BACKEND, known, 0)], {
    ...{ scope: 'both', table },
  });

  it('counts the slots of each backend, strangers included', () => {
    assert.deepEqual(tablesText([shown]), [
      'service 24 (web), ipv4 TCP, maglev, 4 slots for everybody',
      'ID  BACKEND              STATE   WEIGHT  SLOTS  SHARE',
      '24  10.64.0.39:8000/TCP  active  3           3  75.00%',
      ' 9  -                    -       -           1  25.00%',
    ]);
  });

  it('has the whole table in JSON', () => {
    assert.deepEqual(shown.table, [24, 9, 24, 24]);
    assert.deepEqual([shown.size, shown.scope, shown.service], [4, 'both', 24]);
  });
});

describe('the services in the status', () => {
  const ready = describeService(PINNED, WEB);
  const udp = describeService(
    { ...PINNED, id: 25, protocol: 'UDP', eligible: { external: 0, internal: 0 } },
    WEB,
  );
  const problems = ['10.0.1.7 is inside a pod range'];
  const bad = describeAbsent({ ...WEB, name: 'bad', ids: [], state: 'rejected', problems });
  const nameless = describeService({ ...PINNED, id: 9 }, undefined);

  it('are counted by name and by state, backends of the datapath by theirs', () => {
    const summary = summarizeServices([ready, udp, bad, nameless]);
    assert.deepEqual(summary, {
      ...{ total: 3, ready: 1, no_backend: 1, pending: 0, rejected: 1, frontends: 3 },
      backends: { active: 3, terminating: 6, quarantined: 0, maintenance: 0 },
    });
    assert.equal(
      summaryWords(summary),
      '3, 1 without backend, 1 rejected; backends: 3 active, 6 terminating',
    );
    assert.equal(summaryWords(summarizeServices([])), 'none');
  });

  it('that are not valid count beside the one whose name they have', () => {
    const twin = describeInvalid({ name: 'web', reason: 'web stands at services[0].name already' });
    const { total, ready: served, rejected } = summarizeServices([ready, twin, twin]);
    assert.deepEqual([total, served, rejected], [3, 1, 2]);
  });
});
