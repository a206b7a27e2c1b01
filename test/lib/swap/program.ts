import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig } from '../../../agent/config/load.ts';
import { createLoader } from '../../../agent/daemon/load.ts';
import {
  type AttachMode,
  attachHooks,
  DEVICE_HOOKS,
  ENDPOINT_HOOKS,
  listAttachments,
} from '../../../agent/engine/attach.ts';
import type { Datapath } from '../../../agent/engine/datapath.ts';
import { probeCapabilities } from '../../../agent/kernel/capabilities.ts';
import { FAMILIES } from '../../../agent/lib/ip.ts';
import { HOOKS } from '../../../agent/tables/names.ts';
import { createLogger } from '../../../agent/telemetry/log.ts';
import { serveHandlers } from '../remote.ts';

/** What a daemon does with new programs, without the daemon and as often as a test likes. */
const instances: Datapath[] = [];
let bpffs = '';

const handlers = {
  /** Loads the configuration's programs some more times; answers with all their ids. */
  async load({ configFile, count }: { configFile: string; count: number }) {
    const config = loadConfig(configFile);
    bpffs = config.state.bpffs;
    const loader = createLoader(probeCapabilities(), createLogger('silent'));
    for (let i = 0; i < count; i++) instances.push(await loader.reload(config));
    return instances.flatMap(({ programs }) =>
      FAMILIES.flatMap((family) => HOOKS.map((hook) => programs[family][hook].id)),
    );
  },

  /** Puts them onto every hook in turn, `times` times, with a pause after each. */
  async swap({ attach, times, pause }: { attach: AttachMode; times: number; pause: number }) {
    const places = listAttachments(bpffs);
    const onto = (hooks: readonly string[]) =>
      new Set(places.filter(({ hook }) => hooks.includes(hook)).map(({ ifindex }) => ifindex));
    const [devices, endpoints] = [onto(DEVICE_HOOKS), onto(ENDPOINT_HOOKS)];
    for (let i = 0; i < times; i++) {
      const { programs } = instances[i % instances.length] as Datapath;
      for (const ifindex of devices)
        attachHooks({ bpffs, programs, attach }, ifindex, DEVICE_HOOKS);
      for (const ifindex of endpoints) {
        attachHooks({ bpffs, programs, attach }, ifindex, ENDPOINT_HOOKS);
      }
      await sleep(pause);
    }
  },
};

export type SwapHandlers = typeof handlers;

if (import.meta.main) serveHandlers(handlers);
