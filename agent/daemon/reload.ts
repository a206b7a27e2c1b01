import type { Logger as PinoLogger } from 'pino';
import { type ConfigChange, compareConfigs } from '../config/changes.ts';
import type { Config } from '../config/schema.ts';
import type { Datapath } from '../engine/datapath.ts';
import { createPasses } from '../engine/passes.ts';
import { ConfigError, SekishoError } from '../lib/errors.ts';
import { checkAgainstNetwork } from './checks.ts';
import type { NodeKeeper } from './node.ts';
import type { Notifier } from './notify.ts';
import type { ServiceKeeper } from './services.ts';
import type { ReloadStatus } from './status.ts';

/** The configuration that is in force. */
export interface Settings {
  config: Config;
}

export interface ReloadParts {
  settings: Settings;
  /** Reads the file again. Throws E_CONFIG. */
  read(): Promise<Config>;
  /** Loads the programs with other settings, attached nowhere yet. */
  load(config: Config): Promise<Datapath>;
  /** Serves metrics elsewhere, beside where they are served. */
  listen(config: Config): Promise<AsyncDisposable>;
  /** What the first reload replaces. */
  first: { programs: Disposable; server: AsyncDisposable };
  node: NodeKeeper;
  services: Pick<ServiceKeeper, 'configure'>;
  /** After a configuration has come into force. */
  applied(config: Config): void;
  /** What the service manager is to show after a reload that went well. */
  describe(): string;
  onReload(status: ReloadStatus['status']): void;
  notifier: Notifier;
  logger: PinoLogger;
}

/** Owns programs and metrics server, as the last reload left them. */
export interface Reloader extends AsyncDisposable {
  /** Asks for the file to be read again; requests that come before that share it. */
  reload(): void;
  /** The last reload; undefined before the first one. */
  last(): ReloadStatus | undefined;
}

/**
 * Brings a changed file into force, all of it or nothing: everything is checked, loaded and
 * listened on before the first change is made. A refused file leaves the daemon as it was.
 */
export function createReloader(parts: ReloadParts): Reloader {
  const { settings, read, notifier, logger, onReload } = parts;
  let last: ReloadStatus | undefined;
  let { programs, server } = parts.first;

  async function change(next: Config): Promise<string[]> {
    const difference = compareConfigs(settings.config, next);
    if (difference.keys.length === 0) return [];
    refuse(difference, settings.config, next);
    await checkAgainstNetwork(next);
    await using fresh = new AsyncDisposableStack();
    const listens = difference.keys.includes('metrics.listen');
    const nextServer = listens ? fresh.use(await parts.listen(next)) : undefined;
    const loaded = difference.programs ? fresh.use(await parts.load(next)) : undefined;
    await parts.node.reconfigure(next, loaded?.programs);
    if (difference.keys.includes('services')) await parts.services.configure(next);
    fresh.move();
    settings.config = next;
    parts.applied(next);
    if (difference.keys.includes('masquerade.addresses')) {
      logger.warn({}, 'masquerade addresses changed: connections that leave as another one end');
    }
    await replace(loaded, nextServer);
    return difference.keys;
  }

  async function replace(loaded?: Disposable, listening?: AsyncDisposable): Promise<void> {
    const before = { programs, server };
    programs = loaded ?? programs;
    server = listening ?? server;
    if (loaded) before.programs[Symbol.dispose]();
    if (listening) await before.server[Symbol.asyncDispose]();
  }

  async function pass(): Promise<void> {
    notifier.reloading();
    const at = new Date().toISOString();
    try {
      const next = await read();
      const keys = await change(next);
      last = { at, status: 'applied', keys };
      logger.info({ keys }, 'configuration reloaded');
      notifier.ready(parts.describe());
    } catch (error) {
      const { reason, hint } = explain(error);
      last = { at, status: 'refused', keys: [], message: hint ? `${reason} (${hint})` : reason };
      logger.error({ reason, hint }, 'configuration refused; the one before stays in force');
      notifier.ready(`${parts.describe()}; a changed configuration was refused`);
    }
    onReload(last.status);
  }

  const passes = createPasses(pass, 0);
  return {
    reload: () => void passes.trigger().catch(() => {}),
    last: () => last,
    async [Symbol.asyncDispose]() {
      await passes.stop();
      // a change of the network that it still follows is put into effect with these programs
      await parts.node[Symbol.asyncDispose]();
      programs[Symbol.dispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** Throws for what a running agent cannot take over, every such key named. */
function refuse({ fixed }: ConfigChange, before: Config, after: Config): void {
  if (fixed.length > 0) {
    throw new ConfigError(
      'cannot change while the agent runs',
      { path: fixed.join(', ') },
      { hint: 'needs a restart' },
    );
  }
  const [old, next] = [before.masquerade.ports, after.masquerade.ports];
  if (next.min <= old.min && next.max >= old.max) return;
  throw new ConfigError(
    `the range ${old.min}-${old.max} can only grow while the agent runs, not become ${next.min}-${next.max}: connections hold its ports`,
    { path: 'masquerade.ports' },
    { hint: 'needs a restart, which ends those outside the new range' },
  );
}

function explain(error: unknown): { reason: string; hint?: string | undefined } {
  if (error instanceof SekishoError) return { reason: error.message, hint: error.hint };
  return { reason: error instanceof Error ? error.message : String(error) };
}
