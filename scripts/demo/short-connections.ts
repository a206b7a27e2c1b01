import { ADDRESS, PORT, type Web } from './web.ts';

/** So many are under way at any time. */
export const AT_ONCE = 10;

/** Connections that come and go until they are stopped. */
export interface ShortConnections {
  /** Resolves when all that are under way now have been replaced by others. */
  moved(): Promise<void>;
  /** How many there were, and how many failed. */
  stop(): Promise<{ opened: number; failed: number }>;
}

/** Opens them in rounds: each is greeted by its backend, then closed from both sides. */
export function shortConnections({ scene: { world }, client }: Web): ShortConnections {
  const target = { host: ADDRESS, port: PORT, localAddress: client };
  let opened = 0;
  let failed = 0;
  let number = 0;
  let stopped = false;
  let turn = Promise.withResolvers<void>();

  async function round(): Promise<void> {
    const prefix = `short-${number++}-`;
    const { alive } = await world.connectMany({ prefix, count: AT_ONCE, ...target });
    opened += alive;
    failed += AT_ONCE - alive;
    const tags = Array.from({ length: AT_ONCE }, (_, i) => `${prefix}${i}`);
    await Promise.allSettled(tags.map((tag) => world.close({ tag })));
    turn.resolve();
    turn = Promise.withResolvers();
  }

  async function run(): Promise<void> {
    while (!stopped) await round();
  }
  const running = run();
  return {
    async moved() {
      for (let rounds = 0; rounds < 2; rounds++) await turn.promise;
    },
    async stop() {
      stopped = true;
      await running;
      return { opened, failed };
    },
  };
}
