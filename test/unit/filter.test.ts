import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Tuple } from '../../agent/abi/generated.ts';
import type { FilterOptions } from '../../agent/cli/filter.ts';
import { compileFilter } from '../../agent/cli/filter.ts';
import { parseAddress } from '../../agent/lib/ip.ts';

const FLOW: Tuple = {
  saddr: parseAddress('10.0.1.10').bytes,
  daddr: parseAddress('203.0.113.45').bytes,
  sport: 40000,
  dport: 443,
  proto: 6,
  kind: 0,
};

function matches(options: FilterOptions, tuple: Partial<Tuple> = {}): boolean {
  return compileFilter(options).matches({ ...FLOW, ...tuple });
}

describe('a filter', () => {
  it('without words lets everything through', () => {
    assert.ok(matches({}));
    assert.deepEqual(compileFilter({}).families, ['ipv4', 'ipv6']);
  });

  it('compares protocols by name and by number', () => {
    assert.ok(matches({ proto: 'tcp' }));
    assert.ok(matches({ proto: 'TCP' }));
    assert.ok(matches({ proto: '6' }));
    assert.ok(!matches({ proto: 'udp' }));
    assert.ok(matches({ proto: 'icmp6' }, { proto: 58 }));
    assert.equal(compileFilter({ proto: 'sctp' }).proto, 132);
  });

  it('compares addresses with an address or a prefix', () => {
    assert.ok(matches({ src: '10.0.0.0/8', dst: '203.0.113.45' }));
    assert.ok(!matches({ src: '10.0.2.0/24' }));
    assert.ok(!matches({ dst: '203.0.113.46' }));
    assert.ok(matches({ src: '0.0.0.0/0' }));
  });

  it('compares ports', () => {
    assert.ok(matches({ sport: '40000', dport: '443' }));
    assert.ok(!matches({ dport: '80' }));
    assert.ok(matches({ dport: '0' }, { dport: 0 }));
  });

  it('compares kinds, companion entries included', () => {
    assert.ok(matches({ kind: 'out' }));
    assert.ok(matches({ kind: 'OUT' }, { kind: 2 }));
    assert.ok(matches({ kind: 'in' }, { kind: 3 }));
    assert.ok(matches({ kind: 'svc' }, { kind: 4 }));
    assert.ok(!matches({ kind: 'in' }));
  });

  it('needs every word to match', () => {
    assert.ok(!matches({ proto: 'tcp', dport: '80' }));
  });

  it('knows from its words which families can match', () => {
    assert.deepEqual(compileFilter({ src: 'fd00::/8' }).families, ['ipv6']);
    assert.deepEqual(compileFilter({ family: 'ipv4' }).families, ['ipv4']);
  });

  it('refuses words it does not understand as wrong usage', () => {
    const wrong: FilterOptions[] = [
      { proto: 'quic' },
      { proto: '256' },
      { src: '10.0.0.0/40' },
      { dst: 'example.org' },
      { sport: '65536' },
      { dport: 'http' },
      { kind: 'sideways' },
      { family: 'ipx' },
      { family: 'ipv4', src: 'fd00::1' },
      { src: '10.0.0.1', dst: 'fd00::1' },
    ];
    for (const options of wrong) {
      assert.throws(() => compileFilter(options), { code: 'E_USAGE' }, JSON.stringify(options));
    }
  });
});
