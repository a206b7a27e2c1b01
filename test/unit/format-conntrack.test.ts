import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { CtEntry, Tuple } from '../../agent/abi/generated.ts';
import {
  conntrackJson,
  conntrackState,
  flagNames,
  formatConntrack,
  formatTuple,
} from '../../agent/cli/ct-format.ts';
import { parseAddress } from '../../agent/lib/ip.ts';

const [TCP, ICMP, OUT, IN, SVC, RELATED] = [6, 1, 0, 1, 4, 2];

function tuple(proto: number, kind: number, from: string, to: string): Tuple {
  const [saddr, sport] = endpoint(from);
  const [daddr, dport] = endpoint(to);
  return { saddr, daddr, sport, dport, proto, kind };
}

function endpoint(text: string): [Uint8Array, number] {
  const at = text.lastIndexOf(':');
  const address = text.slice(0, at).replace(/^\[|\]$/g, '');
  return [parseAddress(address).bytes, Number(text.slice(at + 1))];
}

function entry(fields: Partial<CtEntry>): CtEntry {
  return {
    expires: 0,
    last_tx_report: 0,
    last_rx_report: 0,
    flags: 0,
    tx_flags_seen: 0,
    rx_flags_seen: 0,
    nat_addr: new Uint8Array(4),
    next_hop: new Uint8Array(4),
    nat_port: 0,
    seen: 0,
    nat_class: 0,
    rev_nat_index: 0,
    nat_looked: 0,
    src_identity: 0,
    backend_id: 0,
    next_ifindex: 0,
    looked: 0,
    packets: 0n,
    bytes: 0n,
    ...fields,
  };
}

const CLOSED = { flags: 0x13, tx_flags_seen: 0x1b };

/* Lines of the published reference trace. */
describe('a conntrack line', () => {
  it('of an outgoing connection is the published one', () => {
    const line = formatConntrack(
      tuple(TCP, OUT, '10.64.0.36:54260', '10.64.0.64:8000'),
      entry({
        ...CLOSED,
        expires: 3026362,
        rx_flags_seen: 0x1b,
        last_rx_report: 3026352,
        last_tx_report: 3026352,
        src_identity: 3096,
      }),
    );
    assert.equal(
      line,
      'TCP OUT 10.64.0.36:54260 -> 10.64.0.64:8000 expires=3026362 Packets=0 Bytes=0 RxFlagsSeen=0x1b LastRxReport=3026352 TxFlagsSeen=0x1b LastTxReport=3026352 Flags=0x0013 [ RxClosing TxClosing SeenNonSyn ] RevNAT=0 SourceSecurityID=3096 BackendID=0',
    );
  });

  it('of a companion entry says related', () => {
    const line = formatConntrack(
      tuple(ICMP, OUT | RELATED, '10.64.0.36:0', '10.64.0.64:0'),
      entry({
        expires: 3026412,
        tx_flags_seen: 2,
        last_tx_report: 3026352,
        src_identity: 3096,
      }),
    );
    assert.equal(
      line,
      'ICMP OUT 10.64.0.36:0 -> 10.64.0.64:0 related expires=3026412 Packets=0 Bytes=0 RxFlagsSeen=0x00 LastRxReport=0 TxFlagsSeen=0x02 LastTxReport=3026352 Flags=0x0000 [ ] RevNAT=0 SourceSecurityID=3096 BackendID=0',
    );
  });

  it('of a service says SVC and its backend', () => {
    const line = formatConntrack(
      tuple(TCP, SVC, '10.64.0.36:59530', '10.68.174.146:80'),
      entry({
        ...CLOSED,
        expires: 3034283,
        last_tx_report: 3034273,
        rev_nat_index: 15,
        backend_id: 19,
      }),
    );
    assert.equal(
      line,
      'TCP SVC 10.64.0.36:59530 -> 10.68.174.146:80 expires=3034283 Packets=0 Bytes=0 RxFlagsSeen=0x00 LastRxReport=0 TxFlagsSeen=0x1b LastTxReport=3034273 Flags=0x0013 [ RxClosing TxClosing SeenNonSyn ] RevNAT=15 SourceSecurityID=0 BackendID=19',
    );
  });

  it('says how long the entry has left, or for how long it is over', () => {
    const svc = tuple(TCP, SVC, '172.191.0.1:53438', '172.190.0.17:80');
    const over = formatConntrack(svc, entry({ ...CLOSED, expires: 3619996 }), 3620301);
    assert.match(over, / expires=3619996 \(remaining: -305 sec\(s\)\) Packets=0 /);
    const left = formatConntrack(svc, entry({ expires: 3034283 }), 3034271);
    assert.match(left, / expires=3034283 \(remaining: 12 sec\(s\)\) Packets=0 /);
  });

  it('sets IPv6 addresses in brackets and counts beyond 32 bits', () => {
    const line = formatConntrack(
      tuple(TCP, IN, '[fd00:0:0::1]:40000', '[fd00::2]:443'),
      entry({ packets: 5_000_000_000n, bytes: 7_000_000_000_000n }),
    );
    assert.match(line, /^TCP IN \[fd00::1\]:40000 -> \[fd00::2\]:443 expires=0 /);
    assert.match(line, / Packets=5000000000 Bytes=7000000000000 /);
  });
});

describe('protocols', () => {
  it('have names, or stay numbers', () => {
    const names = [6, 17, 1, 58, 132, 47].map(
      (proto) => formatTuple(tuple(proto, OUT, '10.0.0.1:1', '10.0.0.2:2')).split(' ')[0],
    );
    assert.deepEqual(names, ['TCP', 'UDP', 'ICMP', 'ICMPv6', 'SCTP', '47']);
  });
});

describe('flag bits', () => {
  it('keep their published positions', () => {
    const published: [number, string][] = [
      [0x0001, 'RxClosing'],
      [0x0002, 'TxClosing'],
      [0x0008, 'LBLoopback'],
      [0x0010, 'SeenNonSyn'],
      [0x0020, 'NodePort'],
      [0x0040, 'ProxyRedirect'],
      [0x0080, 'DSRInternal'],
      [0x0100, 'FromL7LB'],
      [0x0400, 'FromTunnel'],
    ];
    for (const [bit, name] of published) assert.deepEqual(flagNames(bit), [name]);
  });

  it('print as in the published traces', () => {
    const flags = (value: number) =>
      /Flags=(0x.*?\])/.exec(
        formatConntrack(tuple(TCP, OUT, '10.0.0.1:1', '10.0.0.2:2'), entry({ flags: value })),
      )?.[1];
    assert.equal(flags(0x0413), '0x0413 [ RxClosing TxClosing SeenNonSyn FromTunnel ]');
    assert.equal(flags(0x0093), '0x0093 [ RxClosing TxClosing SeenNonSyn DSRInternal ]');
    assert.equal(flags(0x0400), '0x0400 [ FromTunnel ]');
    assert.equal(flags(0), '0x0000 [ ]');
  });

  it('without a name are shown together', () => {
    assert.deepEqual(flagNames(0x8212), ['TxClosing', 'SeenNonSyn', 'Unknown=0x8200']);
  });
});

describe('the state of an entry', () => {
  const flow = tuple(TCP, OUT, '10.0.0.1:1', '10.0.0.2:2');

  it('follows from its flags and from what it has seen', () => {
    assert.equal(conntrackState(flow, entry({ seen: 1, expires: 9 }), 5), 'unreplied');
    assert.equal(conntrackState(flow, entry({ seen: 3, expires: 9 }), 5), 'established');
    assert.equal(conntrackState(flow, entry({ seen: 7, expires: 9 }), 5), 'established');
    assert.equal(conntrackState(flow, entry({ seen: 3, flags: 2, expires: 9 }), 5), 'closing');
    assert.equal(conntrackState(flow, entry({ seen: 3, expires: 5 }), 5), 'expired');
  });

  it('is one-way for entries that see one side by design', () => {
    assert.equal(conntrackState({ ...flow, kind: SVC }, entry({ seen: 1 })), 'one-way');
    assert.equal(conntrackState({ ...flow, kind: IN | RELATED }, entry({ seen: 1 })), 'one-way');
  });
});

describe('the JSON form', () => {
  it('carries the translated source of a masqueraded flow', () => {
    const flow = tuple(TCP, OUT, '10.0.1.10:40000', '203.0.113.45:443');
    const nat_addr = parseAddress('192.168.1.5').bytes;
    const json = conntrackJson(flow, entry({ expires: 100, nat_addr, nat_port: 40000 }), 40);
    assert.deepEqual(json, {
      family: 'ipv4',
      protocol: 'TCP',
      kind: 'OUT',
      source: { address: '10.0.1.10', port: 40000 },
      destination: { address: '203.0.113.45', port: 443 },
      related: false,
      state: 'unreplied',
      expires: 100,
      remaining: 60,
      packets: 0,
      bytes: 0,
      rxFlagsSeen: 0,
      lastRxReport: 0,
      txFlagsSeen: 0,
      lastTxReport: 0,
      flags: 0,
      flagNames: [],
      revNat: 0,
      sourceSecurityId: 0,
      backendId: 0,
      nat: { address: '192.168.1.5', port: 40000 },
    });
  });

  it('has no translation for a flow that keeps its source', () => {
    const flow = tuple(TCP, IN, '[fd00::1]:1', '[fd00::2]:2');
    const json = conntrackJson(flow, entry({ nat_addr: new Uint8Array(16) }));
    assert.deepEqual([json.family, json.nat, json.remaining], ['ipv6', null, null]);
  });
});
