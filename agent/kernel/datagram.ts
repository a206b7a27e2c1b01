import { kernelError } from './error.ts';
import { type Fd, lastErrno, libc } from './ffi.ts';

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const PATH_MAX = 108;

/**
 * Sends one datagram to a unix socket: a path, or an abstract name written `@name`. Node.js has
 * no such sockets. Throws KernelError, and RangeError for a name that is too long.
 */
export function sendDatagram(address: string, text: string): void {
  const { socket, sendto, close } = libc();
  const fd = socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) throw kernelError(lastErrno(), 'open a unix socket');
  try {
    const [to, data] = [unixAddress(address), Buffer.from(text)];
    const sent = sendto(fd, data, data.length, MSG_NOSIGNAL, to, to.length);
    if (sent < 0) throw kernelError(lastErrno(), `send to ${address}`);
  } finally {
    close(fd as Fd);
  }
}

/** struct sockaddr_un; the length of an abstract name is that of the struct. */
function unixAddress(address: string): Uint8Array {
  const isAbstract = address.startsWith('@');
  const name = Buffer.from(isAbstract ? `\0${address.slice(1)}` : `${address}\0`);
  if (name.length > PATH_MAX) throw new RangeError(`${address} is no unix address`);
  const bytes = Buffer.alloc(2 + name.length);
  bytes.writeUInt16LE(AF_UNIX, 0);
  name.copy(bytes, 2);
  return bytes;
}
