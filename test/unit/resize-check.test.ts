import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseEntries, parseTable, resizeLines } from '../../agent/cli/map-resize.ts';
import {
  type Capacities,
  checkSizes,
  memoryOf,
  mostWithin,
  type SizeChange,
} from '../../agent/engine/resize-check.ts';

const capacities: Capacities = {
  ...{ 'ipv4/ctTcp': 65_536, 'ipv4/ctAny': 65_536, 'ipv4/nat': 65_536 },
  ...{ 'ipv6/ctTcp': 65_536, 'ipv6/ctAny': 65_536, 'ipv6/nat': 65_536 },
};
const NOW = memoryOf(capacities);

function check(changes: Partial<SizeChange>[], bound = 1e12): void {
  const change = { family: 'ipv4', table: 'ctTcp', entries: 32_768, held: 0 } as const;
  checkSizes(
    changes.map((given) => ({ ...change, ...given })),
    { capacities, bound, cpus: 2 },
  );
}

describe('a size that is asked for', () => {
  it('is one that a table can have', () => {
    for (const entries of [1024, 16_777_216]) check([{ entries }]);
    for (const entries of [0, 1023, 16_777_217]) {
      assert.throws(() => check([{ entries }]), { code: 'E_USAGE' });
    }
  });

  it('keeps what is there, the free list of every CPU besides', () => {
    check([{ entries: 32_768, held: 32_512 }]);
    assert.throws(() => check([{ entries: 32_768, held: 32_513 }]), {
      code: 'E_CONFLICT',
      message: 'ipv4/ctTcp holds 32513 entries, which 32768 cannot keep',
      hint: 'at least 32769; sekisho gc run deletes what has expired',
    });
  });

  it('fits into the memory that all tables may take', () => {
    const twice = { entries: 131_072 };
    const after = memoryOf({ ...capacities, 'ipv4/ctTcp': 131_072 });
    check([twice], after);
    assert.throws(() => check([twice], after - 1), { code: 'E_CONFLICT', hint: /^the bound is/ });
    assert.throws(() => check([twice, { ...twice, family: 'ipv6' }], after), { message: /memory/ });
  });

  it('may be smaller although the tables are above the bound', () => {
    check([{ entries: 32_768 }], NOW / 2);
  });
});

describe('the most entries that a bound allows', () => {
  it('take no more memory than that, and one more would', () => {
    for (const bound of [NOW, NOW + 1_000_000, 2 * NOW]) {
      const most = mostWithin(bound, capacities, 'ipv6', 'nat');
      const taken = (entries: number) => memoryOf({ ...capacities, 'ipv6/nat': entries });
      assert.ok(taken(most) <= bound && taken(most + 1) > bound, `${most}`);
    }
    assert.equal(mostWithin(NOW, capacities, 'ipv6', 'nat'), 65_536);
  });

  it('are none where the others take it all, and never more than a table can have', () => {
    assert.equal(mostWithin(1000, capacities, 'ipv4', 'nat'), 0);
    assert.equal(mostWithin(1e12, capacities, 'ipv4', 'nat'), 16_777_216);
  });
});

describe('sekisho map resize', () => {
  it('takes a key of maps: or the name of a pin, of both families or of one', () => {
    assert.deepEqual(parseTable('ctTcp'), { table: 'ctTcp' });
    assert.deepEqual(parseTable('ipv6/nat'), { table: 'nat', family: 'ipv6' });
    assert.deepEqual(parseTable('ct_any'), { table: 'ctAny' });
    assert.deepEqual(parseTable('ipv4/snat'), { table: 'nat', family: 'ipv4' });
    for (const wrong of ['', 'snap', 'ipv5/nat', 'ipv4', 'ipv4/', 'nat/ipv4', 'ipv4/nat/']) {
      assert.throws(() => parseTable(wrong), { code: 'E_USAGE', hint: /ctTcp, ctAny, nat/ }, wrong);
    }
    assert.throws(() => parseTable('ctTpc'), { hint: /^did you mean ctTcp\?/ });
  });

  it('takes a plain number', () => {
    assert.equal(parseEntries('262144'), 262_144);
    for (const wrong of ['', '64k', '-1', '1e5', '1.5', '0x400']) {
      assert.throws(() => parseEntries(wrong), { code: 'E_USAGE' }, wrong);
    }
  });

  it('prints what changed, and what did not', () => {
    const done = { family: 'ipv4', table: 'snat', from: 65_536, to: 262_144 } as const;
    const lines = resizeLines([
      { ...done, status: 'resized', copied: 1234, durationMs: 1500 },
      { ...done, family: 'ipv6', status: 'unchanged', copied: 0, durationMs: 0 },
    ]);
    assert.match(lines.join('\n'), /ipv4\/snat +65536 +262144 +1234 +\S+\nipv6\/snat has 262144/);
  });
});
