import { rmSync } from 'node:fs';
import koffi from 'koffi';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;

const library = koffi.load(null);
const socket = library.func('int socket(int, int, int)');
const bind = library.func('int bind(int, void *, uint32_t)');
const recv = library.func('intptr_t recv(int, void *, size_t, int)');
const close = library.func('int close(int)');

/** A service manager's ear: a datagram socket at a path, or at an abstract name (`@name`). */
export interface NotifySocket extends Disposable {
  address: string;
  /** What has been said since the last time, a list of lines for each message. */
  take(): string[][];
}

export function openNotifySocket(address: string): NotifySocket {
  const isAbstract = address.startsWith('@');
  const name = Buffer.from(isAbstract ? `\0${address.slice(1)}` : address);
  const bytes = Buffer.concat([Buffer.from(Uint16Array.of(AF_UNIX).buffer), name]);
  const fd: number = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (fd < 0 || bind(fd, bytes, bytes.length) !== 0) throw new Error(`cannot bind ${address}`);
  return {
    address,
    take() {
      const messages: string[][] = [];
      const buffer = Buffer.alloc(4096);
      for (;;) {
        const length = Number(recv(fd, buffer, buffer.length, MSG_DONTWAIT));
        if (length < 0) return messages;
        messages.push(buffer.toString('utf8', 0, length).split('\n'));
      }
    },
    [Symbol.dispose]() {
      close(fd);
      if (!isAbstract) rmSync(address, { force: true });
    },
  };
}
