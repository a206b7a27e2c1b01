import { serveHandlers } from '../remote.ts';
import { bulk } from './bulk.ts';
import { load } from './load.ts';
import { names } from './names.ts';
import { tcp } from './tcp.ts';
import { udp } from './udp.ts';
import { visits } from './visits.ts';

const handlers = {
  ...tcp,
  ...udp,
  ...bulk,
  ...load,
  ...names,
  ...visits,

  /** An HTTP request from inside the namespace. */
  async fetch({ url }: { url: string }) {
    const response = await fetch(url, { signal: AbortSignal.timeout(5000) });
    return { status: response.status, body: await response.text() };
  },
};

export type PeerHandlers = typeof handlers;

if (import.meta.main) serveHandlers(handlers);
