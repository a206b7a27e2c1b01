import type { Programs } from '../../agent/engine/attach.ts';
import { exit, moveImmediate } from '../../agent/kernel/assembler.ts';
import { loadProgram } from '../../agent/kernel/load.ts';
import type { BpfProgram } from '../../agent/kernel/program.ts';

const TC_ACT_UNSPEC = -1;

/** Programs for every hook that let everything by. */
export function idlePrograms(): Programs & Disposable {
  using stack = new DisposableStack();
  const load = (): BpfProgram =>
    stack.use(loadProgram('sched_cls', 'datapath', [moveImmediate(0, TC_ACT_UNSPEC), exit()]));
  const family = () => ({
    from_endpoint: load(),
    to_endpoint: load(),
    from_netdev: load(),
    to_netdev: load(),
  });
  const programs = { ipv4: family(), ipv6: family() };
  const owned = stack.move();
  return { ...programs, [Symbol.dispose]: () => owned.dispose() };
}
