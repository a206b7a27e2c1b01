import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { sekishoOn } from '../lib/daemon.ts';
import { atLength } from '../lib/long.ts';
import { nth } from '../lib/scene.ts';
import { until } from '../lib/wait.ts';
import {
  about,
  assertAllServed,
  assertMoved,
  assertNewcomers,
  assertReset,
  assertUndisturbed,
  type Course,
  complaints,
  homesIn,
  outcomes,
} from './service-course.ts';
import {
  cameRound,
  change,
  clientOf,
  createLoad,
  type Load,
  mark,
  newcomersAt,
  soFar,
  start,
  stop,
  TARGETS,
  through,
} from './service-load.ts';
import { openStage } from './service-stage.ts';

const ROUNDS = atLength(1, 30);
const REFUSED = 'ECONNREFUSED';
/** Who begins anew with every question, or can. */
const NEWCOMERS = TARGETS.flatMap(({ target }) => [
  { kind: 'short' as const, target },
  { kind: 'datagrams' as const, target },
]);
/** Of clients that come back: their ports, by how they end, and how many there are at a target. */
const REGULAR = { fin: 3000, rst: 4000, target: 100, count: 24 };
const HEAVIEST = { weight: 65_535 };

type End = 'fin' | 'rst';

test('backends come, rest and go under load, on every path', async (t) => {
  await using stage = await openStage();
  const load = await createLoad(stage);
  for (let round = 0; round < ROUNDS; round++) {
    const first = round % load.names.length;
    await live(t, load, [...load.names.slice(first), ...load.names.slice(0, first)]);
  }
  for (const end of ['fin', 'rst'] satisfies End[]) {
    await t.test(`who comes back with its port after ${end} has its backend again`, () =>
      checkReturn(load, nth(load.names, 1), end),
    );
  }
});

/** One round; `goes` is the one that goes and comes. */
async function live(t: TestContext, load: Load, [goes = '', ...others]: string[]): Promise<void> {
  const [one = '', two = ''] = others;

  await t.test(`${goes} is drained: nothing is lost, new ones go elsewhere`, async () => {
    const course = await through(load, { [goes]: { state: 'terminating' } });
    assertAllServed(course, load.names);
    assertUndisturbed(course);
    assertNewcomers(course, others);
  });

  await t.test(`${one} and ${two} are set aside: the drained one is better than none`, async () => {
    const aside = { [one]: { state: 'quarantined' }, [two]: { state: 'maintenance' } };
    const course = await through(load, { ...aside, [goes]: { state: 'terminating' } });
    assertAllServed(course, others);
    assertUndisturbed(course);
    assertNewcomers(course, [goes]);
  });

  await t.test('all are active again: nothing is lost, each gets new ones', async () => {
    const course = await through(load, {}, (after) => newcomersAt(load, after, load.names));
    assertUndisturbed(course);
  });

  await t.test(`${goes} is removed: only what it had is lost`, async () => {
    const course = await through(load, { [goes]: null });
    assertAllServed(course, load.names);
    assertReset(course, goes);
    assertNewcomers(course, others);
    assertMoved(course, goes);
    await assertSilent(load, course, goes);
  });

  await t.test(`${goes} is added: nobody is disturbed, and it gets new ones`, async () => {
    const course = await through(load, {}, (after) => newcomersAt(load, after, [goes]));
    assertAllServed(course, others);
    assertUndisturbed(course);
  });

  await t.test('all are removed and added: clients are refused at once, then all goes on', () =>
    checkNone(load),
  );
}

/** No datagram that was sent after the change came to this one. */
async function assertSilent({ stage }: Load, { before, after }: Course, name: string) {
  const server = stage.servers.find((server) => server.name === name);
  const heard = (await server?.peer.datagramsBySeries()) ?? {};
  const sum = (epoch: number) =>
    TARGETS.reduce((sum, { target }) => sum + (heard[`${target}/${epoch}`] ?? 0), 0);
  assert.ok(sum(before) > 0);
  assert.equal(sum(after), 0);
}

/**
 * Nobody runs into a timeout, which would be among the failures. Open connections wait, and so may
 * a SYN: Linux heeds the error only when nobody is in the system call that sent it.
 */
async function checkNone(load: Load): Promise<void> {
  await start(load);
  await cameRound(load);
  const going = await mark(load);
  await change(load, Object.fromEntries(load.names.map((name) => [name, null])));
  const none = await mark(load);
  const meanwhile = await until('everybody to be refused', async () => {
    const visitors = await soFar(load);
    return NEWCOMERS.every((of) => outcomes(visitors, of, none).failed.size > 0) && visitors;
  });
  const coming = await mark(load);
  await change(load, {});
  const back = await mark(load);
  await cameRound(load);
  const visitors = await stop(load);
  for (const of of NEWCOMERS) {
    const { answered } = outcomes(meanwhile, of, none);
    assert.deepEqual([...answered], [], JSON.stringify(of));
  }
  const others = complaints(
    visitors,
    (_, epoch, reason) => epoch >= going && epoch <= coming && reason === REFUSED,
  );
  assert.deepEqual(others, []);
  for (const visitor of visitors) {
    assert.ok(homesIn(visitor, [back]).length > 0, about(visitor));
    if (visitor.kind === 'lasting') assert.equal(homesIn(visitor).length, 1, about(visitor));
  }
}

/**
 * A backend that is outweighed stands in no slot of the table, yet takes who comes: only who was
 * there a moment ago finds it, by the entry of the connection that is over, until that is flushed.
 */
async function checkReturn(load: Load, name: string, end: End): Promise<void> {
  const { node, agent } = load.stage.first;
  const regulars = Array.from({ length: REGULAR.count }, (_, number) => number);
  const others = regulars.map((number) => number + REGULAR.count);
  const homes = (clients: readonly number[]) =>
    Promise.all(TARGETS.map((_, i) => homesOf(load, i, clients, end)));
  const assertNobody = async (clients: readonly number[]) => {
    for (const list of await homes(clients)) assert.ok(!list.includes(name), `${list}`);
  };

  await change(load, {});
  const before = await homes(regulars);
  const heavier = load.names.filter((other) => other !== name);
  await change(load, Object.fromEntries(heavier.map((other) => [other, HEAVIEST])));
  for (const [i, { target }] of TARGETS.entries()) {
    const own = regulars.filter((number) => before[i]?.[number] === name);
    assert.ok(own.length > 0, target);
    const again = await homesOf(load, i, own, end);
    assert.deepEqual(new Set(again), new Set([name]), target);
  }
  await assertNobody(others);
  const command = ['ct', 'flush', '--kind', 'svc'];
  const { code, stderr } = await sekishoOn(node, agent.configFile, ...command);
  assert.equal(code, 0, stderr);
  await assertNobody(regulars);
}

/**
 * Who answers a connection of each of these clients of a target. They have ports of their own: a
 * backend that is reached by two frontends must not see one twice.
 */
async function homesOf(
  { stage }: Load,
  index: number,
  clients: readonly number[],
  end: End,
): Promise<string[]> {
  const target = nth(TARGETS, index);
  const { host, port } = target;
  const first = REGULAR[end] + index * REGULAR.target;
  const targets = clients.map((number) => ({ host, port, localPort: first + number }));
  const answers = await clientOf(stage, target).askEach({ targets, reset: end === 'rst' });
  return answers.map(({ by }) => by);
}
