import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, connect as dial, type Socket } from 'node:net';

export interface Transfer {
  /** What arrived. */
  bytes: number;
  seconds: number;
  /** SHA-1 of what arrived, when asked for. */
  hash?: string;
}

interface Bulk {
  host: string;
  port: number;
  bytes: number;
  hash?: boolean;
}

/** Sent over and over; its length is prime to every power of two, so that a shift shows. */
const block = pattern(999_983);

export const bulk = {
  /** Takes what is uploaded and answers with what arrived, or sends as much as it is asked for. */
  async bulkServe({ host, port = 0 }: { host: string; port?: number }) {
    const server = createServer({ allowHalfOpen: true }, (socket) => void serve(socket));
    server.listen(port, host);
    await once(server, 'listening');
    return (server.address() as { port: number }).port;
  },

  /** Sends `bytes` and answers with what the other side says arrived. */
  async upload({ host, port, bytes, hash = false }: Bulk): Promise<Transfer> {
    const socket = dial({ host, port, allowHalfOpen: true });
    await once(socket, 'connect');
    const start = performance.now();
    socket.write(`up ${hash}\n`);
    await fill(socket, bytes);
    const answer: Buffer[] = [];
    for await (const chunk of socket) answer.push(chunk);
    const seconds = (performance.now() - start) / 1000;
    return { ...JSON.parse(Buffer.concat(answer).toString()), seconds };
  },

  /** Receives `bytes` from the other side. */
  async download({ host, port, bytes, hash = false }: Bulk): Promise<Transfer> {
    const sum = hash ? createHash('sha1') : undefined;
    let received = 0;
    const socket = dial({
      host,
      port,
      onread: {
        buffer: Buffer.alloc(1 << 20),
        callback(length, buffer) {
          received += length;
          sum?.update(buffer.subarray(0, length));
          return true;
        },
      },
    });
    await once(socket, 'connect');
    const start = performance.now();
    socket.write(`down ${bytes}\n`);
    await once(socket, 'close');
    return transfer(received, start, sum);
  },

  /** The hash of what a transfer of this length carries. */
  expectedHash({ bytes }: { bytes: number }) {
    const sum = createHash('sha1');
    for (let left = bytes; left > 0; left -= block.length) sum.update(block.subarray(0, left));
    return sum.digest('hex');
  },
};

async function serve(socket: Socket): Promise<void> {
  socket.on('error', () => socket.destroy());
  const [first] = (await once(socket, 'data')) as [Buffer];
  const end = first.indexOf(10);
  const [verb, argument] = first.subarray(0, end).toString().split(' ');
  if (verb === 'down') return fill(socket, Number(argument));
  const start = performance.now();
  const sum = argument === 'true' ? createHash('sha1') : undefined;
  let received = 0;
  const take = (chunk: Buffer) => {
    received += chunk.length;
    sum?.update(chunk);
  };
  take(first.subarray(end + 1));
  socket.on('data', take);
  await once(socket, 'end');
  socket.end(JSON.stringify(transfer(received, start, sum)));
}

async function fill(socket: Socket, bytes: number): Promise<void> {
  for (let left = bytes; left > 0; left -= block.length) {
    const chunk = left < block.length ? block.subarray(0, left) : block;
    if (!socket.write(chunk)) await once(socket, 'drain');
  }
  socket.end();
}

function transfer(bytes: number, start: number, sum: Hash | undefined): Transfer {
  const seconds = (performance.now() - start) / 1000;
  return { bytes, seconds, ...(sum ? { hash: sum.digest('hex') } : {}) };
}

function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = 0x2545f491;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes;
}
