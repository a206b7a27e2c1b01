import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { NatEntry, Tuple } from '../../agent/abi/generated.ts';
import { formatNat, natJson } from '../../agent/cli/nat-format.ts';
import { otherHalf } from '../../agent/cli/nat-pair.ts';
import { countPorts } from '../../agent/cli/nat-ports.ts';
import { attemptLines } from '../../agent/cli/nat-retries.ts';
import { parseAddress } from '../../agent/lib/ip.ts';

const [TCP, ICMP, OUT, IN] = [6, 1, 0, 1];
const POD = parseAddress('10.0.1.10').bytes;
const NODE = parseAddress('192.168.1.5').bytes;
const WORLD = parseAddress('203.0.113.45').bytes;

function entry(addr: Uint8Array, port: number, fields: Partial<NatEntry> = {}): NatEntry {
  const defaults = { class: 1, flags: 0, expires: 0, created: 96, rev_nat_index: 0, touched: 0 };
  return { ...defaults, addr, port, ...fields };
}

/** Trace E of the reference: a pod reaches the world as its node, port kept. */
const FORWARD: Tuple = {
  saddr: POD,
  sport: 40000,
  daddr: WORLD,
  dport: 443,
  proto: TCP,
  kind: OUT,
};
const REVERSE: Tuple = {
  saddr: WORLD,
  sport: 443,
  daddr: NODE,
  dport: 40000,
  proto: TCP,
  kind: IN,
};

describe('a NAT line', () => {
  it('of a forward entry is the published one', () => {
    assert.equal(
      formatNat(FORWARD, entry(NODE, 40000), 100),
      'TCP OUT 10.0.1.10:40000 -> 203.0.113.45:443 XLATE_SRC 192.168.1.5:40000 Created=4sec ago NeedsCT=0',
    );
  });

  it('of a reverse entry is the published one', () => {
    assert.equal(
      formatNat(REVERSE, entry(POD, 40000), 100),
      'TCP IN 203.0.113.45:443 -> 192.168.1.5:40000 XLATE_DST 10.0.1.10:40000 Created=4sec ago NeedsCT=0',
    );
  });

  it('says NeedsCT=1 for a flow of the node itself', () => {
    assert.match(formatNat(FORWARD, entry(NODE, 1, { flags: 1 }), 100), / NeedsCT=1$/);
  });

  it('prints the raw time when the clock is not known', () => {
    assert.match(formatNat(FORWARD, entry(NODE, 1)), / Created=\? \(raw 96\) NeedsCT=0$/);
  });

  it('sets IPv6 addresses in brackets', () => {
    const v6 = (text: string) => parseAddress(text).bytes;
    const line = formatNat(
      { ...FORWARD, saddr: v6('fd00:1::10'), daddr: v6('2001:db8::1') },
      entry(v6('2001:db8::5'), 40000),
      100,
    );
    assert.match(
      line,
      /^TCP OUT \[fd00:1::10\]:40000 -> \[2001:db8::1\]:443 XLATE_SRC \[2001:db8::5\]:40000 /,
    );
  });
});

describe('the JSON form of a NAT entry', () => {
  it('names the translation, its class and its times', () => {
    assert.deepEqual(natJson(REVERSE, entry(POD, 40000, { expires: 160 }), 100), {
      family: 'ipv4',
      protocol: 'TCP',
      kind: 'IN',
      source: { address: '203.0.113.45', port: 443 },
      destination: { address: '192.168.1.5', port: 40000 },
      translation: 'destination',
      to: { address: '10.0.1.10', port: 40000 },
      created: 96,
      age: 4,
      expires: 160,
      remaining: 60,
      class: 'established',
      needsCt: false,
      revNat: 0,
    });
  });
});

describe('the other half of a NAT pair', () => {
  it('is found from either half', () => {
    assert.deepEqual(otherHalf(FORWARD, { addr: NODE, port: 40000 }), REVERSE);
    assert.deepEqual(otherHalf(REVERSE, { addr: POD, port: 40000 }), FORWARD);
  });

  it('of an echo has its identifier on the other side', () => {
    const request = { ...FORWARD, proto: ICMP, sport: 77, dport: 0 };
    const reply = otherHalf(request, { addr: NODE, port: 1234 });
    assert.deepEqual([reply.sport, reply.dport], [0, 1234]);
    assert.deepEqual(otherHalf(reply, { addr: POD, port: 77 }), request);
  });
});

describe('ports in use', () => {
  function count(now: number, items: [Tuple, NatEntry][]) {
    const counter = countPorts(() => 4, now);
    for (const [tuple, value] of items) counter.add(tuple, value);
    return [...counter.uses()];
  }
  const reverse = (port: number, fields: Partial<Tuple> = {}): Tuple => ({
    ...REVERSE,
    dport: port,
    ...fields,
  });
  const alive = entry(POD, 40000, { expires: 200 });

  it('are counted per protocol, egress address and remote endpoint, the fullest first', () => {
    const used = count(100, [
      [FORWARD, alive],
      [reverse(40000), alive],
      [reverse(40001), alive],
      [reverse(40000, { sport: 80 }), alive],
      [reverse(7, { proto: ICMP, sport: 0 }), alive],
    ]);
    assert.deepEqual(
      used.map((use) => [
        use.protocol,
        use.egress,
        use.remote,
        use.used,
        use.capacity,
        use.percent,
      ]),
      [
        ['TCP', '192.168.1.5', '203.0.113.45:443', 2, 4, 50],
        ['TCP', '192.168.1.5', '203.0.113.45:80', 1, 4, 25],
        ['ICMP', '192.168.1.5', '203.0.113.45:0', 1, 65_536, 100 / 65_536],
      ],
    );
  });

  it('leave out what has expired, and keep what is being taken over', () => {
    const used = count(100, [
      [reverse(40000), entry(POD, 1, { expires: 100 })],
      [reverse(40001), entry(POD, 1, { expires: 0 })],
    ]);
    assert.deepEqual(
      used.map((use) => use.used),
      [1],
    );
  });
});

describe('the histogram of attempts', () => {
  it('has one line per number of attempts, failures last', () => {
    assert.deepEqual(attemptLines({ attempts: [5, 0, 2], failed: 1 }), [
      '0: 5',
      '1: 0',
      '2: 2',
      'failed: 1',
    ]);
  });
});
