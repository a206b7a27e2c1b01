import { type Dissection, dissect } from '../lib/dissect.ts';
import type { Namespace } from '../lib/netns.ts';
import { openWire } from '../lib/raw-socket.ts';

/** A packet that came in by an interface, or went out. */
export interface Passed extends Dissection {
  direction: 'in' | 'out';
}

/** Hears an interface and forgets nothing. */
export interface Tap extends AsyncDisposable {
  /** Everything so far. */
  passed(): Promise<readonly Passed[]>;
}

export async function tap(ns: Namespace, device: string): Promise<Tap> {
  const wire = await openWire(ns, device);
  const passed: Passed[] = [];
  return {
    async passed() {
      const heard = await wire.take();
      passed.push(...heard.map(({ frame, direction }) => ({ ...dissect(frame), direction })));
      return passed;
    },
    [Symbol.asyncDispose]: () => wire[Symbol.asyncDispose](),
  };
}
