import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import { slowly } from '../wait.ts';
import { type Mailbox, mailbox } from './mailbox.ts';

/** UDP conversations: every datagram is `tag text`, so that a server can tell flows apart. */
interface Flow {
  socket: Socket;
  inbox: Mailbox;
  remoteAddress: string;
  remotePort: number;
}

export interface UdpTarget {
  host: string;
  port: number;
  localPort?: number;
}

const flows = new Map<string, Flow>();

export const udp = {
  /** Answers every datagram with itself unless `echo` is false. Answers with the port. */
  async udpListen({
    host,
    port = 0,
    echo = true,
  }: {
    host: string;
    port?: number;
    echo?: boolean;
  }) {
    const socket = openSocket(host);
    socket.on('message', (message, { address, port }) => {
      const [tag = '', text = ''] = split(message);
      const inbox = flows.get(tag)?.inbox ?? mailbox();
      flows.set(tag, { socket, inbox, remoteAddress: address, remotePort: port });
      if (echo) socket.send(message, port, address);
      else inbox.put(text);
    });
    socket.bind(port, host);
    await once(socket, 'listening');
    return socket.address().port;
  },

  async udpOpen({ tag, host, port, localPort = 0 }: UdpTarget & { tag: string }) {
    const socket = openSocket(host);
    const inbox = mailbox();
    socket.on('message', (message) => inbox.put(split(message)[1]));
    socket.bind(localPort);
    await once(socket, 'listening');
    socket.connect(port, host);
    await once(socket, 'connect');
    flows.set(tag, { socket, inbox, remoteAddress: host, remotePort: port });
    return socket.address().port;
  },

  /**
   * Sends until the same text comes back, at most `attempts` times; answers with how many it took.
   */
  async udpExchange(arg: { tag: string; text?: string; attempts?: number; timeout?: number }) {
    const { tag, text = 'ping', attempts = 1, timeout = 1500 } = arg;
    const flow = find(tag);
    for (let attempt = 1; attempt <= attempts; attempt++) {
      send(flow, tag, text);
      const answer = await flow.inbox.take(slowly(timeout)).catch(() => undefined);
      if (answer === text) return attempt;
    }
    throw new Error(`no answer after ${attempts} datagrams`);
  },

  udpSay({ tag, text = 'ping' }: { tag: string; text?: string }) {
    send(find(tag), tag, text);
  },

  udpHear({ tag, timeout = 1500 }: { tag: string; timeout?: number }) {
    return find(tag).inbox.take(slowly(timeout));
  },

  /** Where the flow's last datagram came from, as this side sees it. */
  udpEndpoints({ tag }: { tag: string }) {
    const { remoteAddress, remotePort } = find(tag);
    return { remoteAddress, remotePort };
  },

  udpClose({ tag }: { tag: string }) {
    find(tag).socket.close();
    flows.delete(tag);
  },

  /** One datagram from each of `count` local ports, as many new flows. */
  async udpFlood({ host, port, localPort = 0, count }: UdpTarget & { count: number }) {
    let next = 0;
    const worker = async () => {
      while (next < count) {
        const index = next++;
        const socket = openSocket(host);
        socket.bind(localPort === 0 ? 0 : localPort + index);
        await once(socket, 'listening');
        await new Promise<void>((resolve) => socket.send('flood .', port, host, () => resolve()));
        socket.close();
      }
    };
    await Promise.all(Array.from({ length: 32 }, worker));
  },
};

function openSocket(host: string): Socket {
  const ipv6 = isIPv6(host);
  const socket = createSocket({ type: ipv6 ? 'udp6' : 'udp4', ipv6Only: ipv6 });
  socket.on('error', () => {});
  return socket;
}

function send(flow: Flow, tag: string, text: string): void {
  const { socket, remoteAddress, remotePort } = flow;
  let connected = true;
  try {
    socket.remoteAddress();
  } catch {
    connected = false;
  }
  if (connected) socket.send(`${tag} ${text}`);
  else socket.send(`${tag} ${text}`, remotePort, remoteAddress);
}

function split(message: Buffer): [string, string] {
  const text = message.toString();
  const space = text.indexOf(' ');
  return [text.slice(0, space), text.slice(space + 1)];
}

function find(tag: string): Flow {
  const flow = flows.get(tag);
  if (!flow) throw new Error(`no flow is called ${tag}`);
  return flow;
}
