import type { Rig } from '../../datapath/rig.ts';
import type { FlowKey } from '../../lib/tables.ts';
import { HANDOFF } from './runner.ts';

/** What an ingress hook tells to_netdev of the wrapper's first flow, which stands for all. */
export interface Handoffs {
  of(flags: string): readonly number[];
  /** When the halves are due for a look. */
  due(): readonly number[];
  /** In the second of that look. */
  vouched(): readonly number[];
}

/** `key`: of the flow's CT entry. `first`: its packets as they come in. */
export function firstHandoffs(
  rig: Rig,
  hook: 'from_endpoint' | 'from_netdev',
  key: FlowKey,
  first: (flags: string) => Uint8Array,
): Handoffs {
  const enter = (flags: string) => rig.run(hook, first(flags));
  const makeDue = () => rig.patchCt(key, { nat_looked: (rig.now() - 1) & 0xffff });
  return {
    of: (flags) => enter(flags).cb,
    due() {
      makeDue();
      return enter('A').cb;
    },
    vouched() {
      for (;;) {
        makeDue();
        const { packet, cb } = enter('A');
        rig.run('to_netdev', packet, { cb, ingressIfindex: rig.ifindex.a });
        const after = enter('A').cb;
        if (after[1] === HANDOFF.translated) return after;
      }
    },
  };
}
