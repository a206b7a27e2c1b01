import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import { SekishoError } from '../lib/errors.ts';

export interface MetricsServerOptions {
  host: string;
  /** 0 lets the kernel choose. */
  port: number;
  registry: Registry;
  /** What keeps the daemon from being ready; empty when it is. */
  problems(): string[];
}

export interface MetricsServer extends AsyncDisposable {
  port: number;
}

/**
 * Serves `/metrics`, `/healthz` (the process answers) and `/readyz` (200, or 503 with what is
 * missing, a line each). Throws E_CONFLICT when the address is taken.
 */
export async function serveMetrics(options: MetricsServerOptions): Promise<MetricsServer> {
  const { host, port } = options;
  const server = createServer((request, response) => {
    answer(options, request, response).catch((error: unknown) => {
      send(response, 500, `${error instanceof Error ? error.message : String(error)}\n`);
    });
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen({ host, port }, resolve);
  await promise.catch((cause: NodeJS.ErrnoException) => {
    throw new SekishoError('E_CONFLICT', `cannot listen on ${host} port ${port}: ${cause.code}`, {
      cause,
      hint: 'choose another metrics.listen',
    });
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((done) => server.close(() => done()));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(
  { registry, problems }: MetricsServerOptions,
  { method, url = '/' }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (method !== 'GET' && method !== 'HEAD') {
    send(response, 405, 'only GET\n');
    return;
  }
  switch (new URL(url, 'http://localhost').pathname) {
    case '/metrics':
      send(response, 200, await registry.metrics(), registry.contentType);
      return;
    case '/healthz':
      send(response, 200, 'ok\n');
      return;
    case '/readyz': {
      const missing = problems();
      send(response, missing.length > 0 ? 503 : 200, `${missing.join('\n') || 'ok'}\n`);
      return;
    }
    default:
      send(response, 404, 'not here: /metrics, /healthz, /readyz\n');
  }
}

function send(
  response: ServerResponse,
  status: number,
  body: string,
  contentType = 'text/plain; charset=utf-8',
): void {
  if (response.headersSent) return;
  response.writeHead(status, { 'content-type': contentType }).end(body);
}
