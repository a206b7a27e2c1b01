import assert from 'node:assert/strict';
import type { Visitor } from '../lib/peer/visits.ts';

/** What visitors met while something changed, by the numbers of their epochs. */
export interface Course {
  visitors: Visitor[];
  before: number;
  changing: number;
  after: number;
}

/** Who answered, in these epochs or in all. */
export function homesIn({ epochs }: Visitor, only?: readonly number[]): string[] {
  const tallies = only ? only.map((epoch) => epochs[epoch]) : Object.values(epochs);
  return [...new Set(tallies.flatMap((tally) => Object.keys(tally?.answered ?? {})))];
}

/** Who answered those of a kind in an epoch, and with what they failed. */
export function outcomes(
  visitors: readonly Visitor[],
  of: Pick<Visitor, 'kind' | 'target'>,
  epoch: number,
): { answered: Set<string>; failed: Set<string> } {
  const tallies = visitors
    .filter(({ kind, target }) => kind === of.kind && target === of.target)
    .map(({ epochs }) => epochs[epoch]);
  return {
    answered: new Set(tallies.flatMap((tally) => Object.keys(tally?.answered ?? {}))),
    failed: new Set(tallies.flatMap((tally) => Object.keys(tally?.failed ?? {}))),
  };
}

/** Every failure that may not be. */
export function complaints(
  visitors: readonly Visitor[],
  may: (visitor: Visitor, epoch: number, reason: string) => boolean = () => false,
): string[] {
  return visitors.flatMap((visitor) =>
    Object.entries(visitor.epochs).flatMap(([epoch, { failed }]) =>
      Object.keys(failed)
        .filter((reason) => !may(visitor, Number(epoch), reason))
        .map((reason) => `${visitor.kind} to ${visitor.target}, epoch ${epoch}: ${reason}`),
    ),
  );
}

/** Connections that began after the change were given to these only. */
export function assertNewcomers({ visitors, after }: Course, names: readonly string[]): void {
  for (const target of new Set(visitors.map(({ target }) => target))) {
    const { answered } = outcomes(visitors, { kind: 'short', target }, after);
    assert.ok(answered.size > 0, target);
    for (const name of answered)
      assert.ok(names.includes(name), `${name} had new ones of ${target}`);
  }
}

/** Before the change each of these had connections and datagrams, by every path. */
export function assertAllServed({ visitors, before }: Course, names: readonly string[]): void {
  const pathOf = ({ target, kind }: Visitor) => `${kind} to ${target.split('-')[0]}`;
  for (const path of new Set(visitors.filter(({ kind }) => kind !== 'short').map(pathOf))) {
    const own = visitors.filter((visitor) => pathOf(visitor) === path);
    const homes = new Set(own.flatMap((visitor) => homesIn(visitor, [before])));
    assert.deepEqual([...homes].sort(), [...names].sort(), path);
  }
}

/** Nothing failed, and who had a backend has kept it. */
export function assertUndisturbed({ visitors }: Course): void {
  assert.deepEqual(complaints(visitors), []);
  for (const visitor of visitors) {
    if (visitor.kind !== 'short') assert.equal(homesIn(visitor).length, 1, about(visitor));
  }
}

/** Connections to this one were reset, and at most those short ones that were under way. */
export function assertReset({ visitors, after }: Course, name: string): void {
  const had = (visitor: Visitor) => homesIn(visitor)[0] === name;
  const others = complaints(visitors, (visitor, epoch, reason) => {
    if (visitor.kind === 'datagrams' || reason !== 'ECONNRESET') return false;
    return visitor.kind === 'lasting' ? had(visitor) : epoch < after;
  });
  assert.deepEqual(others, []);
  for (const visitor of visitors) {
    const { kind, over, epochs } = visitor;
    const failures = Object.values(epochs).flatMap((tally) => Object.values(tally.failed));
    const failed = failures.reduce((sum, count) => sum + count, 0);
    if (kind === 'short') assert.ok(failed <= 1, about(visitor));
    if (kind !== 'lasting') continue;
    assert.equal(homesIn(visitor).length, 1, about(visitor));
    assert.equal(over, had(visitor) ? 'ECONNRESET' : null, about(visitor));
  }
}

/** Datagrams go to another one than this, from the first one on that was sent after the change. */
export function assertMoved({ visitors, before, after }: Course, gone: string): void {
  for (const visitor of visitors.filter(({ kind }) => kind === 'datagrams')) {
    const homes = [homesIn(visitor, [before]), homesIn(visitor, [after])];
    assert.deepEqual(
      homes.map(({ length }) => length),
      [1, 1],
      about(visitor),
    );
    const [was, now] = homes.flat();
    if (was === gone) assert.notEqual(now, gone, about(visitor));
    else assert.equal(now, was, about(visitor));
  }
}

export const about = (visitor: Visitor): string => JSON.stringify(visitor);
