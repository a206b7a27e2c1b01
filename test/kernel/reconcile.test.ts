import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { listAttachments } from '../../agent/engine/attach.ts';
import { readNetwork } from '../../agent/engine/ip-tool.ts';
import { makePlan, type Plan } from '../../agent/engine/plan.ts';
import { type ReconcileContext, reconcile } from '../../agent/engine/reconcile.ts';
import { formatAddress, parseAddress } from '../../agent/lib/ip.ts';
import { ATTACH_MODES } from '../lib/attach-modes.ts';
import { idlePrograms } from '../lib/idle-programs.ts';
import { memoryTables } from '../lib/memory-tables.ts';
import { inOwnNamespace, mountBpffs, runInOwnNamespace, skipReason } from './sandbox.ts';

const QUIET = { debug() {}, info() {}, warn() {}, error() {} };
const PODS = [
  { name: 'one', interface: 'pod1', addresses: ['10.0.1.10'], id: 1 },
  { name: 'two', interface: 'pod2', addresses: ['10.0.1.11'], id: 2 },
];

interface Setup extends Disposable {
  context: ReconcileContext;
  plan: Plan;
  /** Hooks that an endpoint's interface carries, of either family. */
  hooksOf(name: string): number;
  /** Pods that have a row. */
  rows(): string[];
}

/** Two pods, whose addresses stand in the tables as those of interfaces that are gone. */
async function setUp(attach: ReconcileContext['attach']): Promise<Setup> {
  using stack = new DisposableStack();
  const bpffs = stack.use(mountBpffs()).path;
  const programs = stack.use(idlePrograms());
  for (const { interface: name } of PODS) {
    execFileSync('ip', ['link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}-in`]);
    stack.defer(() => execFileSync('ip', ['link', 'del', name]));
  }
  const prefixes = { exclude: [], podCIDRs: [], nodes: [] };
  const ports = { min: 32768, max: 65535 };
  const asked = { devices: [], wanted: [], endpoints: PODS, prefixes, egress: [], ports };
  const plan = makePlan({ network: await readNetwork(), ...asked });
  const tables = memoryTables();
  for (const [i, { addresses }] of PODS.entries()) {
    const gone = { ifindex: 900 + i, id: i + 1, identity: i + 1, flags: 0, mtu: 1500 };
    tables.ipv4.endpoints.set({ addr: parseAddress(addresses[0] ?? '').bytes, endpoint: gone });
  }
  const owned = stack.move();
  return {
    plan,
    context: { bpffs, programs, attach, tables, scrub: async () => 0, logger: QUIET },
    hooksOf(name) {
      const placed = plan.endpoints.find(({ spec }) => spec.interface === name);
      const there = listAttachments(bpffs).filter(({ attached }) => attached);
      return there.filter(({ ifindex }) => ifindex === placed?.link.ifindex).length;
    },
    rows: () => tables.ipv4.endpoints.read().map(({ addr }) => formatAddress(addr)),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function defineTests(): void {
  execFileSync('mount', ['-t', 'sysfs', 'sysfs', '/sys']);

  for (const { attach, skip } of ATTACH_MODES) {
    test(`a pod whose interface is made anew has its hooks before it loses its row (${attach})`, {
      skip,
    }, async () => {
      using setup = await setUp(attach);
      const { context, plan, hooksOf, rows } = setup;
      const { endpoints } = context.tables.ipv4;
      const seen: unknown[] = [];
      const remove = endpoints.remove.bind(endpoints);
      endpoints.remove = (row) => {
        seen.push({ removing: formatAddress(row.addr), hooks: hooksOf('pod1') + hooksOf('pod2') });
        remove(row);
      };
      const scrub = async () => seen.push({ rows: rows() });
      await reconcile(plan, { ...context, scrub });
      assert.deepEqual(seen, [
        { removing: '10.0.1.10', hooks: 8 },
        { removing: '10.0.1.11', hooks: 8 },
        { rows: [] },
      ]);
      assert.deepEqual(
        endpoints.read().map(({ endpoint }) => endpoint.ifindex),
        plan.endpoints.map(({ link }) => link.ifindex),
      );
    });
  }

  test('an endpoint that cannot be attached keeps no other one out', async () => {
    using setup = await setUp('tc');
    const { context, plan, hooksOf, rows } = setup;
    execFileSync('tc', ['qdisc', 'add', 'dev', 'pod1', 'ingress']);
    await assert.rejects(reconcile(plan, context), { code: 'E_CONFLICT', message: /ingress/ });
    assert.equal(hooksOf('pod1'), 0);
    assert.equal(hooksOf('pod2'), 4);
    assert.deepEqual(rows(), ['10.0.1.10', '10.0.1.11']);
  });
}

if (inOwnNamespace()) {
  defineTests();
} else {
  test('reconciling, in a network namespace of its own', { skip: skipReason }, () => {
    const report = runInOwnNamespace(import.meta.filename);
    assert.equal(report, undefined, report);
  });
}
