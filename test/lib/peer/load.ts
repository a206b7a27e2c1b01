import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, connect as dial, isIPv6, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { affordably, breathe, slowly } from '../wait.ts';

/** Where a load goes: TCP and UDP on the same port, both echoed. */
export interface LoadTarget {
  host: string;
  port: number;
}

export interface Load {
  targets: LoadTarget[];
  /** Bytes a second and target that a long stream sends, and gets back; fewer on a slow machine by default. */
  rate?: number;
  /** Short connections at a time and target. */
  workers?: number;
}

/** What a load has done so far. */
export interface LoadReport {
  streams: { sent: number; received: number; intact: boolean; error: string | null }[];
  /** Short connections: opened, spoken on and closed; and why others were not. */
  connections: number;
  broken: Record<string, number>;
  /** Datagrams answered; those of them that were sent more than once; flows never answered. */
  datagrams: number;
  resent: number;
  unanswered: number;
}

const TICK_MS = slowly(10);
const PATIENCE_MS = slowly(10_000);
const ATTEMPTS = 20;
const ANSWER_MS = slowly(500);

let running: { stop: AbortController; report: LoadReport; done: Promise<unknown> } | undefined;

export const load = {
  /** Sends back whatever arrives. */
  async echoServe({ host, port }: LoadTarget) {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => socket.destroy());
      socket.pipe(socket);
    });
    server.listen({ port, host, backlog: 4096 });
    await once(server, 'listening');
    const udp = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
    udp.on('message', (message, from) => udp.send(message, from.port, from.address));
    udp.bind(port, host);
    await once(udp, 'listening');
  },

  /** Begins a load that goes on until `stopLoad`: streams, short connections, datagrams. */
  startLoad({ targets, rate = affordably(4_000_000), workers = 2 }: Load) {
    if (running) throw new Error('a load is running');
    const stop = new AbortController();
    const report: LoadReport = {
      streams: [],
      connections: 0,
      broken: {},
      datagrams: 0,
      resent: 0,
      unanswered: 0,
    };
    const tasks = targets.flatMap((target) => [
      stream(target, rate, report, stop.signal),
      datagrams(target, true, report, stop.signal),
      datagrams(target, false, report, stop.signal),
      ...Array.from({ length: workers }, () => connections(target, report, stop.signal)),
    ]);
    running = { stop, report, done: Promise.all(tasks) };
  },

  loadSoFar: (): LoadReport => current().report,

  /** Ends it; every stream has then got back what it sent, or says why not. */
  async stopLoad(): Promise<LoadReport> {
    const { stop, done, report } = current();
    stop.abort();
    await done;
    running = undefined;
    return report;
  },
};

function current() {
  if (!running) throw new Error('no load is running');
  return running;
}

async function stream(
  { host, port }: LoadTarget,
  rate: number,
  report: LoadReport,
  stop: AbortSignal,
): Promise<void> {
  const account: LoadReport['streams'][number] = {
    sent: 0,
    received: 0,
    intact: false,
    error: null,
  };
  report.streams.push(account);
  const [sent, received] = [createHash('sha1'), createHash('sha1')];
  const socket = dial({ host, port, allowHalfOpen: true });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    account.error ??= error.code ?? error.message;
  });
  socket.on('data', (chunk) => {
    account.received += chunk.length;
    received.update(chunk);
  });
  const ended = once(socket, 'end').catch(() => {});
  for (let round = 0; !stop.aborted && account.error === null; round++) {
    const block = Buffer.alloc((rate * TICK_MS) / 1000, round);
    account.sent += block.length;
    sent.update(block);
    if (!socket.write(block)) await Promise.race([once(socket, 'drain').catch(() => {}), ended]);
    await sleep(TICK_MS);
  }
  socket.end();
  await Promise.race([ended, sleep(PATIENCE_MS, undefined, { ref: false })]);
  socket.destroy();
  account.intact = sent.digest('hex') === received.digest('hex');
}

async function connections(
  target: LoadTarget,
  report: LoadReport,
  stop: AbortSignal,
): Promise<void> {
  while (!stop.aborted) {
    try {
      await oneConnection(target);
      report.connections++;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const reason = code ?? message;
      report.broken[reason] = (report.broken[reason] ?? 0) + 1;
    }
    await breathe();
  }
}

async function oneConnection({ host, port }: LoadTarget): Promise<void> {
  const socket: Socket = dial({ host, port, noDelay: true });
  socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error('timeout')));
  try {
    await once(socket, 'connect');
    socket.write('short');
    await once(socket, 'data');
    socket.end();
    await once(socket, 'close');
  } finally {
    socket.destroy();
  }
}

/** One flow that goes on, or a new one for every exchange. */
async function datagrams(
  target: LoadTarget,
  lasting: boolean,
  report: LoadReport,
  stop: AbortSignal,
): Promise<void> {
  let flow = await openFlow(target);
  while (!stop.aborted) {
    if (!lasting) {
      flow.close();
      flow = await openFlow(target);
    }
    const attempts = await flow.exchange();
    if (attempts === 0) report.unanswered++;
    else report.datagrams++;
    if (attempts > 1) report.resent++;
    await breathe();
  }
  flow.close();
}

async function openFlow({ host, port }: LoadTarget) {
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  let answered: (text: string) => void = () => {};
  let count = 0;
  socket.on('error', () => {});
  socket.on('message', (message) => answered(message.toString()));
  socket.connect(port, host);
  await once(socket, 'connect');
  return {
    /** How many datagrams it took, 0 when none was answered. */
    async exchange(): Promise<number> {
      const text = `${count++}`;
      for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
        const { promise, resolve } = Promise.withResolvers<boolean>();
        const timer = setTimeout(resolve, ANSWER_MS, false);
        answered = (heard) => heard === text && resolve(true);
        socket.send(text);
        const heard = await promise;
        clearTimeout(timer);
        if (heard) return attempt;
      }
      return 0;
    },
    close: () => socket.close(),
  };
}
