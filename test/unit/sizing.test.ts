import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { MapSettings } from '../../agent/engine/sizing.ts';
import {
  elementCost,
  fillStep,
  mapMemory,
  SIZED_TABLES,
  sizeMaps,
  totalMapMemory,
} from '../../agent/engine/sizing.ts';

const GIB = 2 ** 30;
const AUTO: MapSettings = { memoryRatio: 0.0025, ctTcp: 'auto', ctAny: 'auto', nat: 'auto' };

describe('automatic table sizes', () => {
  it('are the least ones on a small machine', () => {
    const least = { ctTcp: 131_072, ctAny: 65_536, nat: 131_072 };
    assert.deepEqual(sizeMaps(AUTO, 1 * GIB), least);
    assert.deepEqual(sizeMaps(AUTO, 16 * GIB), least);
  });

  it('never exceed the largest one', () => {
    const { ctTcp, ctAny, nat } = sizeMaps(AUTO, 100_000 * GIB);
    assert.deepEqual([ctTcp, ctAny, nat], [16_777_216, 16_777_216, 16_777_216]);
  });

  it('keep the proportions of the default sizes in between', () => {
    const sizes = sizeMaps(AUTO, 256 * GIB);
    assert.equal(sizes.ctTcp, sizes.nat);
    assert.ok(Math.abs(sizes.ctTcp - 2 * sizes.ctAny) <= 1);
  });

  it('spend the share of the memory that was given, buckets aside', () => {
    for (const memory of [64, 256, 1024].map((gib) => gib * GIB)) {
      const sizes = sizeMaps(AUTO, memory);
      const cost = (family: 'ipv4' | 'ipv6') =>
        SIZED_TABLES.reduce((sum, table) => sum + sizes[table] * elementCost(table, family), 0);
      const spent = (cost('ipv4') + cost('ipv6')) / memory;
      assert.ok(Math.abs(spent - 0.0025) < 0.000001, `${spent}`);
    }
  });
});

describe('explicit table sizes', () => {
  it('win over the automatic ones', () => {
    const sizes = sizeMaps({ ...AUTO, ctTcp: 1024, nat: 2048 }, 16 * GIB);
    assert.deepEqual(sizes, { ctTcp: 1024, ctAny: 65_536, nat: 2048 });
  });

  it('cut an automatic NAT table to two thirds of the connection tables', () => {
    const sizes = sizeMaps({ ...AUTO, ctTcp: 2048, ctAny: 1024 }, 16 * GIB);
    assert.equal(sizes.nat, 2048);
  });

  it('refuse a NAT table larger than both connection tables', () => {
    const settings = { ...AUTO, ctTcp: 1024, ctAny: 1024, nat: 2049 };
    assert.throws(() => sizeMaps(settings, 16 * GIB), { code: 'E_CONFIG', path: 'maps.nat' });
  });
});

/* memlock of LRU hash maps as Linux 6.18 reports it for these key and value sizes. */
describe('memory of a table', () => {
  it('is what the kernel reports', () => {
    assert.equal(mapMemory('ctTcp', 'ipv4', 131_072), 18_875_264);
    assert.equal(mapMemory('ctTcp', 'ipv4', 100_000), 14_898_048);
    assert.equal(mapMemory('nat', 'ipv4', 131_072), 13_632_384);
    assert.equal(mapMemory('nat', 'ipv6', 131_072), 17_826_688);
  });

  it('is 144 bytes an element for IPv4 connections', () => {
    assert.equal(elementCost('ctTcp', 'ipv4'), 144);
  });

  it('adds up over both families', () => {
    const sizes = { ctTcp: 1024, ctAny: 1024, nat: 1024 };
    const single = SIZED_TABLES.flatMap((table) =>
      (['ipv4', 'ipv6'] as const).map((family) => mapMemory(table, family, 1024)),
    );
    assert.equal(
      totalMapMemory(sizes),
      single.reduce((a, b) => a + b),
    );
  });
});

describe('how many insertions a CPU makes before it tells', () => {
  it('is a power of two, and all CPUs together stay under 1/64 of the smallest table', () => {
    assert.equal(fillStep(65_536, 1), 1024);
    assert.equal(fillStep(65_536, 2), 512);
    assert.equal(fillStep(100_000, 1), 1024);
    for (const cpus of [1, 3, 8, 24]) {
      const step = fillStep(262_144, cpus);
      assert.ok(step * cpus <= 262_144 / 64 && 2 * step * cpus > 262_144 / 64, `${cpus}`);
      assert.equal(step & (step - 1), 0);
    }
  });

  it('is never so small that telling costs, nor so large that nobody hears for long', () => {
    assert.equal(fillStep(1024, 128), 64);
    assert.equal(fillStep(16_777_216, 1), 4096);
  });
});
