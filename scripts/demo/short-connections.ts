import { ADDRESS, PORT, type Web } from './web.ts';

const AT_ONCE = 10;

/** Connections that come and go until they are stopped. */
export interface ShortConnections {
  /** Resolves when all that are under way now have been replaced by others. */
  moved(): Promise<void>;
  /** How many there were, and why some failed. */
  stop(): Promise<{ opened: number; broken: string[] }>;
}

/** Opens them in rounds: each is greeted by its backend, then closed from both sides. */
export function shortConnections({ scene: { world }, client }: Web): ShortConnections {
  const target = { host: ADDRESS, port: PORT, localAddress: client };
  const broken: string[] = [];
  let opened = 0;
  let stopped = false;
  let turn = Promise.withResolvers<void>();

  async function round(number: number): Promise<void> {
    const prefix = `short-${number}-`;
    const { alive, dead } = await world.connectMany({ prefix, count: AT_ONCE, ...target });
    opened += alive;
    for (const [reason, times] of Object.entries(dead)) broken.push(`${reason} ${times}`);
    const tags = Array.from({ length: AT_ONCE }, (_, i) => `${prefix}${i}`);
    await Promise.allSettled(tags.map((tag) => world.close({ tag })));
    turn.resolve();
    turn = Promise.withResolvers();
  }

  async function run(): Promise<void> {
    for (let number = 0; !stopped; number++) await round(number);
  }
  const running = run();
  return {
    async moved() {
      for (let rounds = 0; rounds < 2; rounds++) await turn.promise;
    },
    async stop() {
      stopped = true;
      await running;
      return { opened, broken };
    },
  };
}
