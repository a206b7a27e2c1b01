import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, connect as dial, isIPv6 } from 'node:net';
import { slowly } from '../wait.ts';
import { mailbox } from './mailbox.ts';
import { endpoints, listenTo, type Target } from './tcp.ts';

/** Who answered, and as whom he saw who asked. */
export interface Answer {
  by: string;
  address: string;
  port: number;
}

/** A connection, or a socket that asks from one port; errors are their codes. */
export interface Asker {
  /** `series` names what belongs together of what is asked by datagrams. */
  ask(series: string): Promise<Answer>;
  close(): void;
}

const PATIENCE_MS = slowly(15_000);
/** Lines of a connection. After the last one the other side hangs up first. */
const LINE = 'again';
const LAST_LINE = 'last';

const asked: Record<string, number> = {};

export const names = {
  /** Says a name to whoever asks on the port, by TCP and UDP. */
  async nameServe({ host, port, name }: { host: string; port: number; name: string }) {
    const server = createServer((socket) => {
      const { remoteAddress, remotePort } = endpoints(socket);
      listenTo(socket, mailbox(), (line) => {
        const answer = `${name} ${remoteAddress} ${remotePort}\n`;
        if (line === LAST_LINE) socket.end(answer);
        else socket.write(answer);
      });
    });
    server.listen({ host, port, backlog: 4096 });
    await once(server, 'listening');
    const udp = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
    udp.on('message', (message, from) => {
      const [question = '', series = ''] = message.toString().split(' ');
      asked[series] = (asked[series] ?? 0) + 1;
      udp.send(`${question} ${name} ${from.address} ${from.port}`, from.port, from.address);
    });
    udp.bind(port, host);
    await once(udp, 'listening');
  },

  /** Datagrams that came, by series. */
  datagramsBySeries: () => asked,

  /** Asks once each, one after the other, by connections that the server ends or a RST does. */
  async askEach({ targets, reset = false }: { targets: Target[]; reset?: boolean }) {
    const answers: Answer[] = [];
    for (const target of targets) answers.push(await askOnce(target, reset));
    return answers;
  },
};

/** Connects, asks, and ends it; rejects where any of that fails. */
export async function askOnce(target: Target, reset = false): Promise<Answer> {
  const socket = dial({ ...target, noDelay: true });
  const inbox = mailbox();
  listenTo(socket, inbox, (line) => inbox.put(line));
  let failure: string | undefined;
  socket.on('error', (error: NodeJS.ErrnoException) => {
    failure = error.code ?? error.message;
  });
  const closed = new Promise((resolve) => socket.once('close', resolve));
  try {
    socket.write(`${reset ? LINE : LAST_LINE}\n`);
    const answer = parse(await inbox.take(PATIENCE_MS));
    if (reset) socket.resetAndDestroy();
    await closed;
    if (failure !== undefined) throw new Error(failure);
    return answer;
  } finally {
    socket.destroy();
  }
}

/** A connection that goes on; closing it sends a RST, which leaves the port free. */
export function openConnection(target: Target): Asker {
  const socket = dial({ ...target, noDelay: true });
  const inbox = mailbox();
  listenTo(socket, inbox, (line) => inbox.put(line));
  return {
    async ask() {
      if (inbox.closed !== undefined) throw new Error(inbox.closed);
      socket.write(`${LINE}\n`);
      return parse(await inbox.take(PATIENCE_MS));
    },
    close: () => void socket.resetAndDestroy(),
  };
}

/** Asks by a datagram, and never by a second one: the answer, an error, or nothing comes. */
export async function openFlow({ host, port, localPort = 0 }: Target): Promise<Asker> {
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  let pending: PromiseWithResolvers<Answer> | undefined;
  let question = 0;
  const fail = (error: Error | null) => {
    if (error) pending?.reject(new Error((error as NodeJS.ErrnoException).code ?? error.message));
  };
  socket.on('error', fail);
  socket.on('message', (message) => {
    const [number, ...answer] = message.toString().split(' ');
    if (number === `${question}`) pending?.resolve(parse(answer.join(' ')));
  });
  socket.bind(localPort);
  await once(socket, 'listening');
  socket.connect(port, host);
  await once(socket, 'connect');
  return {
    async ask(series) {
      const answer = Promise.withResolvers<Answer>();
      const timer = setTimeout(() => answer.reject(new Error('timeout')), PATIENCE_MS);
      pending = answer;
      socket.send(`${++question} ${series}`, fail);
      return answer.promise.finally(() => clearTimeout(timer));
    },
    close: () => void socket.close(),
  };
}

function parse(text: string): Answer {
  const [by = '', address = '', port = ''] = text.split(' ');
  return { by, address, port: Number(port) };
}
