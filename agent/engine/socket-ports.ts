import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';

const PROC = '/proc/self/net';
const FILES: Readonly<Record<string, number>> = { tcp: 6, tcp6: 6, udp: 17, udp6: 17 };
/** Number of the socket, its address and port, the peer's; all but the first in hexadecimal. */
const SOCKET = /^ *\d+: [0-9A-F]+:([0-9A-F]{4}) /;

export interface SocketPort {
  /** IANA number. */
  proto: number;
  port: number;
}

/** Local ports that sockets of a network namespace have. */
export interface SocketPorts {
  has(proto: number, port: number): boolean;
}

/** An index of these ports. */
export function socketPorts(ports: Iterable<SocketPort>): SocketPorts {
  const known = new Set<number>();
  for (const { proto, port } of ports) known.add((proto << 16) | port);
  return { has: (proto, port) => known.has((proto << 16) | port) };
}

/**
 * The ports of all TCP and UDP sockets of this process's network namespace, listening, connected
 * and in TIME_WAIT, whatever address they are bound to. Where they cannot be read, every port
 * counts as a socket's.
 */
export async function readSocketPorts(proc = PROC): Promise<SocketPorts> {
  const ports: SocketPort[] = [];
  try {
    for (const [file, proto] of Object.entries(FILES)) {
      for await (const port of readPorts(`${proc}/${file}`)) ports.push({ proto, port });
    }
  } catch {
    return { has: () => true };
  }
  return socketPorts(ports);
}

async function* readPorts(path: string): AsyncIterable<number> {
  try {
    for await (const line of createInterface({ input: createReadStream(path) })) {
      const port = SOCKET.exec(line)?.[1];
      if (port) yield Number.parseInt(port, 16);
    }
  } catch (error) {
    // a kernel without IPv6
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || !path.endsWith('6')) throw error;
  }
}
