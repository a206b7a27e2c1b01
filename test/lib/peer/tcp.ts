import { once } from 'node:events';
import { createServer, connect as dial, isIPv6, type Server, type Socket } from 'node:net';
import { slowly } from '../wait.ts';
import { type Mailbox, mailbox } from './mailbox.ts';

/**
 * TCP conversations in lines. The first line of a connection is its tag; the accepting side sends
 * it back, and both sides then speak of the connection by it.
 */
interface Conversation {
  socket: Socket;
  inbox: Mailbox;
}

export interface Endpoint {
  localAddress: string;
  localPort: number;
  remoteAddress: string;
  remotePort: number;
}

export interface Target {
  host: string;
  port: number;
  localPort?: number;
  localAddress?: string;
}

/** Survivors, and why the others died. */
export interface Census {
  alive: number;
  dead: Record<string, number>;
}

const conversations = new Map<string, Conversation>();
const servers = new Map<number, Server>();

export const tcp = {
  /** Accepts conversations; `echo` (default) sends every line back. Answers with the port. */
  async listen({ host, port = 0, echo = true }: { host?: string; port?: number; echo?: boolean }) {
    const server = createServer((socket) => accept(socket, echo));
    const where = host === undefined ? {} : { host, ipv6Only: isIPv6(host) };
    server.listen({ port, backlog: 4096, ...where });
    await once(server, 'listening');
    const bound = (server.address() as { port: number }).port;
    servers.set(bound, server);
    return bound;
  },

  /** Stops accepting; conversations go on. */
  unlisten({ port }: { port: number }) {
    servers.get(port)?.close();
    servers.delete(port);
  },

  /** Opens a conversation and waits until the other side has sent its tag back. */
  async connect({ tag, timeout = 3000, ...target }: Target & { tag: string; timeout?: number }) {
    await open(tag, target, timeout);
    return endpoints(find(tag).socket);
  },

  /** Opens `count` conversations tagged `prefix` + number, on consecutive local ports if given. */
  async connectMany(arg: Target & Group & { timeout?: number }) {
    const { prefix, count, timeout = 10_000, localPort, ...target } = arg;
    return census(
      count,
      async (i) => {
        const ports = localPort === undefined ? {} : { localPort: localPort + i };
        await open(`${prefix}${i}`, { ...target, ...ports }, timeout);
      },
      128,
    );
  },

  /** Says a line and waits until it comes back; skips what the other side says of itself. */
  async exchange({ tag, text = 'ping', timeout = 3000 }: Line) {
    await exchange(tag, text, timeout);
  },

  /** The same on all conversations of a group at once. */
  exchangeMany({ text = 'ping', timeout = 3000, ...group }: Group & Omit<Line, 'tag'>) {
    const tags = tagged(group);
    return census(tags.length, (i) => exchange(tags[i] ?? '', text, timeout), tags.length);
  },

  /** Says a line on every conversation of a group that was opened and is not over. */
  sayMany({ text = 'hello', ...group }: Group & { text?: string }) {
    for (const tag of tagged(group)) {
      const conversation = conversations.get(tag);
      if (conversation?.inbox.closed === undefined) conversation?.socket.write(`${text}\n`);
    }
  },

  say({ tag, text = 'ping' }: Line) {
    find(tag).socket.write(`${text}\n`);
  },

  /** The next line that arrives. */
  hear({ tag, timeout = 3000 }: Line) {
    return find(tag).inbox.take(slowly(timeout));
  },

  /** Addresses and ports as this side sees them. */
  endpoints: ({ tag }: { tag: string }) => endpoints(find(tag).socket),

  /** Why the conversation is over, or null. */
  ended: ({ tag }: { tag: string }) => conversations.get(tag)?.inbox.closed ?? null,

  /** Ends the conversation with FIN and waits for the other side's. */
  async close({ tag }: { tag: string }) {
    const { socket } = find(tag);
    if (!socket.closed) {
      socket.end();
      await once(socket, 'close');
    }
    conversations.delete(tag);
  },

  /** Ends it with RST. */
  reset({ tag }: { tag: string }) {
    find(tag).socket.resetAndDestroy();
    conversations.delete(tag);
  },
};

/** Conversations tagged `prefix` + number, `count` of them from number `first` (default 0). */
export interface Group {
  prefix: string;
  first?: number;
  count: number;
}

export interface Line {
  tag: string;
  text?: string;
  /** Milliseconds, before `slowly`. */
  timeout?: number;
}

function accept(socket: Socket, echo: boolean): void {
  const inbox = mailbox();
  let known = false;
  listenTo(socket, inbox, (line) => {
    if (!known) {
      known = true;
      conversations.set(line, { socket, inbox });
      socket.write(`${line}\n`);
    } else if (echo) socket.write(`${line}\n`);
    else inbox.put(line);
  });
}

async function open(tag: string, target: Target, timeout: number): Promise<void> {
  const socket = dial({ ...target, noDelay: true });
  const inbox = mailbox();
  listenTo(socket, inbox, (line) => inbox.put(line));
  conversations.set(tag, { socket, inbox });
  socket.write(`${tag}\n`);
  try {
    const greeting = await inbox.take(slowly(timeout));
    if (greeting !== tag) throw new Error(`greeted as ${greeting}`);
  } catch (error) {
    socket.destroy();
    conversations.delete(tag);
    throw error;
  }
}

/** Hands every line to `hear`, and closes the inbox with why there will be no more. */
export function listenTo(socket: Socket, inbox: Mailbox, hear: (line: string) => void): void {
  socket.setNoDelay(true);
  socket.on('error', (error: NodeJS.ErrnoException) => inbox.close(error.code ?? error.message));
  socket.on('end', () => inbox.close('closed by the other side'));
  socket.on('close', () => inbox.close('closed'));
  let partial = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    const lines = (partial + text).split('\n');
    partial = lines.pop() ?? '';
    for (const line of lines) hear(line);
  });
}

async function exchange(tag: string, text: string, timeout: number): Promise<void> {
  const { socket, inbox } = find(tag);
  if (inbox.closed !== undefined) throw new Error(inbox.closed);
  socket.write(`${text}\n`);
  const deadline = performance.now() + slowly(timeout);
  while ((await inbox.take(deadline - performance.now())) !== text);
}

async function census(
  count: number,
  task: (index: number) => Promise<void>,
  atOnce: number,
): Promise<Census> {
  const result: Census = { alive: 0, dead: {} };
  let next = 0;
  const worker = async () => {
    while (next < count) {
      try {
        await task(next++);
        result.alive++;
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        result.dead[reason] = (result.dead[reason] ?? 0) + 1;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, worker));
  return result;
}

function tagged({ prefix, first = 0, count }: Group): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}${first + i}`);
}

function find(tag: string): Conversation {
  const conversation = conversations.get(tag);
  if (!conversation) throw new Error(`no conversation is called ${tag}`);
  return conversation;
}

export function endpoints(socket: Socket): Endpoint {
  const plain = (address = '') => address.replace(/^::ffff:/, '');
  return {
    localAddress: plain(socket.localAddress),
    localPort: socket.localPort ?? 0,
    remoteAddress: plain(socket.remoteAddress),
    remotePort: socket.remotePort ?? 0,
  };
}
