import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import type { Config } from '../config/schema.ts';
import { calibrateNode, writeNodeState } from '../engine/clock.ts';
import { type Datapath, type PreparedDatapath, prepareDatapath } from '../engine/datapath.ts';
import type { LoadSettings } from '../engine/load-settings.ts';
import type { Logger } from '../engine/logger.ts';
import { objectPath } from '../engine/objects.ts';
import { fillStep, sizeMaps } from '../engine/sizing.ts';
import type { Capabilities } from '../kernel/capabilities.ts';
import { possibleCpus } from '../kernel/system.ts';
import { SekishoError } from '../lib/errors.ts';
import { FAMILIES } from '../lib/ip.ts';
import { readNodeState } from '../tables/clock.ts';

/** Loads the datapath of one agent, as often as its configuration changes. */
export interface DatapathLoader {
  /** Over the maps that are pinned, or over new ones; calibrates the clock. */
  load(config: Config): Promise<Datapath>;
  /**
   * With other settings over the maps that `load` opened, and its own closed. Throws E_CONFLICT when those are no
   * longer what is pinned, since the agent would write to the old ones, and when the compiled
   * programs are not those that it started with: it would fill them in as it knows the old ones.
   */
  reload(config: Config): Promise<Datapath>;
}

export function createLoader(capabilities: Capabilities, logger: Logger): DatapathLoader {
  const compiled = digest();
  let running: Datapath | undefined;
  return {
    async load(config) {
      const { bpffs } = config.state;
      using prepared = prepare(config, logger);
      const state = calibrateNode(bpffs);
      const { secret, hz } = state;
      const datapath = await prepared.load({
        ...{ secret, hz, fillStep: stepOf(prepared) },
        ...loadSettings(config, capabilities),
      });
      writeNodeState(bpffs, state);
      running = datapath;
      return datapath;
    },
    async reload(config) {
      if (digest() !== compiled) {
        throw new SekishoError('E_CONFLICT', 'another version of the programs has been installed', {
          hint: 'needs a restart',
        });
      }
      using prepared = prepare(config, logger);
      if (running) refuseStrangers(prepared.strangers(running));
      const { secret, hz } = readNodeState(config.state.bpffs);
      const loaded = await prepared.load({
        ...{ secret, hz, fillStep: stepOf(prepared) },
        ...loadSettings(config, capabilities),
      });
      loaded.closeMaps();
      return loaded;
    },
  };
}

function refuseStrangers([first, ...others]: string[]): void {
  if (first === undefined) return;
  const more = others.length > 0 ? ` and ${others.length} more` : '';
  throw new SekishoError('E_CONFLICT', `someone removed or replaced the pin ${first}${more}`, {
    hint: 'needs a restart; what is in tables without a pin is then forgotten',
  });
}

function digest(): string {
  const hash = createHash('sha256');
  for (const family of FAMILIES) hash.update(readFileSync(objectPath(`${family}.bpf.o`)));
  return hash.digest('hex');
}

function prepare({ maps, state }: Config, logger: Logger): PreparedDatapath {
  const { ctTcp, ctAny, nat } = sizeMaps(maps, totalmem());
  const sizes = { ct_tcp: ctTcp, ct_any: ctAny, snat: nat };
  return prepareDatapath({ bpffs: state.bpffs, sizes, logger });
}

function stepOf({ smallestTable }: PreparedDatapath): number {
  return fillStep(smallestTable, possibleCpus());
}

function loadSettings(
  { conntrack, masquerade, datapath }: Config,
  { fibSkipNeigh, csumIpv6 }: Capabilities,
): Omit<LoadSettings, 'secret' | 'hz' | 'fillStep'> {
  return {
    timeouts: conntrack.timeouts,
    accounting: conntrack.accounting,
    masquerade: masquerade.enabled,
    restore: masquerade.restore,
    fastRouting: datapath.routing === 'fast',
    fibSkipNeigh,
    csumIpv6,
  };
}
