import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ct_flag, ct_seen, flow_class, nat_class } from '../../agent/abi/generated.ts';
import { Ages, FLOW_ORDER, NAT_STEPS, Quota, reliefNeed } from '../../agent/engine/relief.ts';
import { flowClass } from '../../agent/tables/flow-class.ts';
import { FLOW_CLASSES } from '../../agent/tables/names.ts';

const { FLOW_CLOSING, FLOW_HALF_OPEN, FLOW_UNANSWERED, FLOW_ANSWERED } = flow_class;

/** Entries as `[class, seconds left, how many]`. */
function agesOf(...entries: [known: number, left: number, count: number][]): Ages {
  const ages = new Ages();
  for (const [known, left, count] of entries) for (let i = 0; i < count; i++) ages.add(known, left);
  return ages;
}

/** How many of `count` like it are taken. */
function taken(quota: Quota, known: number, left: number, count: number): number {
  return Array.from({ length: count }, () => quota.take(known, left)).filter(Boolean).length;
}

describe('how much room is made', () => {
  it('none up to 80 %, and down to 70 % above', () => {
    const cases = [800, 801, 900, 1000].map((alive) => reliefNeed(alive, 1000));
    assert.deepEqual(cases, [0, 101, 200, 300]);
  });

  it('never more than brings the table to 70 %', () => {
    for (let capacity = 1024; capacity < 1200; capacity++) {
      for (const alive of [Math.floor(capacity * 0.81), capacity]) {
        const left = alive - reliefNeed(alive, capacity);
        assert.ok(left <= 0.7 * capacity && left + 1 > 0.7 * capacity, `${left} of ${capacity}`);
      }
    }
  });
});

describe('who goes', () => {
  const ages = agesOf(
    [FLOW_ANSWERED, 5, 100],
    [FLOW_UNANSWERED, 50, 10],
    [FLOW_UNANSWERED, 20, 10],
    [FLOW_HALF_OPEN, 59, 10],
    [FLOW_CLOSING, 9, 10],
  );

  it('is decided by class, then by how long a flow has been silent', () => {
    const quota = new Quota(ages, FLOW_ORDER, 33);
    assert.equal(quota.left, 33);
    assert.equal(taken(quota, FLOW_CLOSING, 9, 10), 10);
    assert.equal(taken(quota, FLOW_HALF_OPEN, 59, 10), 10);
    assert.equal(taken(quota, FLOW_UNANSWERED, 50, 10), 3, 'the younger ones last');
    assert.equal(taken(quota, FLOW_UNANSWERED, 20, 10), 10);
    assert.equal(taken(quota, FLOW_ANSWERED, 5, 100), 0);
    assert.equal(quota.left, 0);
  });

  it('is everybody who may, when that does not suffice', () => {
    const quota = new Quota(ages, FLOW_ORDER, 1000);
    assert.equal(quota.left, 140);
  });

  it('is no more than were counted: who came since is left alone', () => {
    const quota = new Quota(ages, FLOW_ORDER, 1000);
    assert.equal(taken(quota, FLOW_CLOSING, 9, 30), 10);
    assert.equal(taken(quota, FLOW_CLOSING, 8, 30), 0);
  });

  it('is never an established connection, nor one on its way there', () => {
    const never = [flow_class.FLOW_ESTABLISHED, flow_class.FLOW_OPENING];
    const quota = new Quota(agesOf([never[0] ?? 0, 1, 9], [never[1] ?? 0, 1, 9]), FLOW_ORDER, 99);
    assert.equal(quota.left, 0);
    assert.deepEqual(
      never.filter((known) => FLOW_ORDER.includes(known)),
      [],
    );
    for (const { half, owners, orphans } of NAT_STEPS) {
      assert.notEqual(half, nat_class.NAT_CLASS_ESTABLISHED);
      assert.equal(orphans & (1 << nat_class.NAT_CLASS_ESTABLISHED), 0);
      assert.ok(never.every((known) => (owners & (1 << known)) === 0));
    }
  });

  it('lifetimes of many minutes are one age', () => {
    const quota = new Quota(
      agesOf([FLOW_CLOSING, 5000, 2], [FLOW_CLOSING, 9000, 2]),
      FLOW_ORDER,
      3,
    );
    assert.equal(taken(quota, FLOW_CLOSING, 1023, 9), 3);
  });
});

describe('what a connection is worth', () => {
  const { CT_RX_CLOSING: RX, CT_TX_CLOSING: TX, CT_SEEN_NON_SYN: DATA } = ct_flag;
  const { CT_SEEN_TX: SENT, CT_SEEN_RX: HEARD, CT_SEEN_BOTH: BOTH, CT_RX_RESET: RESET } = ct_seen;
  const rows: [what: string, tcp: boolean, flags: number, seen: number, known: string][] = [
    ['a SYN', true, 0, SENT, 'half_open'],
    ['picked up in its middle, from one side', true, DATA, SENT, 'half_open'],
    ['a SYN that was answered', true, 0, BOTH, 'opening'],
    ['both sides speak', true, DATA, BOTH, 'established'],
    ['one side has closed', true, DATA | TX, BOTH, 'established'],
    ['both have closed', true, DATA | TX | RX, BOTH, 'closing'],
    ['refused', true, RX, SENT | RESET, 'closing'],
    ['a RST from outside, which anybody can send', true, DATA | RX, BOTH | RESET, 'established'],
    ['a RST from outside after its own FIN', true, DATA | TX | RX, BOTH | RESET, 'established'],
    ['a datagram', false, 0, SENT, 'unanswered'],
    ['a companion', false, 0, 0, 'unanswered'],
    ['a datagram from the world', false, 0, HEARD, 'unanswered'],
    ['a question and its answer', false, 0, BOTH, 'answered'],
  ];
  for (const [what, tcp, flags, seen, known] of rows) {
    it(`${what}: ${known}`, () => {
      assert.equal(FLOW_CLASSES[flowClass(flags, seen, tcp)], known);
    });
  }
});
