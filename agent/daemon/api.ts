import { chmodSync, rmSync } from 'node:fs';
import fastify, { type FastifyInstance } from 'fastify';
import { z } from 'zod';
import { formatPath, problemsOf } from '../config/problem.ts';
import type { RejectedService } from '../config/schema.ts';
import { serviceSchema } from '../config/service-schema.ts';
import { integer, interfaceName, objectName, oneOf, unicast } from '../config/values.ts';
import type { ResizeResult } from '../engine/resizer.ts';
import { LEAST_SIZE, MOST_SIZE, SIZED_TABLES, type SizedTable } from '../engine/sizing.ts';
import type { Sweep } from '../engine/sweep.ts';
import { type ErrorCode, SekishoError } from '../lib/errors.ts';
import type { Family } from '../lib/ip.ts';
import type { ApplyResult, ServiceView } from '../services/view.ts';
import type { EndpointRequest, StoredEndpoint } from './endpoint-store.ts';
import { jsonStream } from './json-stream.ts';
import type { Status } from './status.ts';

/** An endpoint as the API shows it. */
export interface EndpointView extends StoredEndpoint {
  /** 0 while its interface is not there. */
  ifindex: number;
  /** `unfit`: the interface is there, and cannot be an endpoint's. */
  state: 'ready' | 'no_interface' | 'unfit';
}

/** A table that is to have another size. */
export interface ResizeRequest {
  table: SizedTable;
  family?: Family | undefined;
  entries: number;
}

/** What the socket can ask of the daemon. */
export interface AgentControl {
  status(): Promise<Status>;
  health(): { healthy: boolean; problems: string[] };
  listEndpoints(): EndpointView[];
  /** `created` is false when the same endpoint was there. */
  addEndpoint(request: EndpointRequest): Promise<{ endpoint: EndpointView; created: boolean }>;
  deleteEndpoint(name: string): Promise<EndpointView>;
  /** Some at a time. */
  listServices(): AsyncIterable<ServiceView[]>;
  /** Services of the configuration that are not valid. */
  invalidServices(): readonly RejectedService[];
  /** Throws E_NOT_FOUND. */
  getService(name: string): Promise<ServiceView>;
  /** Each as the configuration has it; adds or changes by name. */
  applyServices(items: readonly unknown[]): Promise<ApplyResult[]>;
  deleteService(name: string): Promise<ServiceView>;
  /** One pass over all tables. */
  collect(): Promise<Sweep>;
  /** Of one family, or of both. */
  resize(request: ResizeRequest): Promise<ResizeResult[]>;
}

const HTTP_STATUS: Partial<Record<ErrorCode, number>> = {
  E_USAGE: 400,
  E_BAD_ADDRESS: 400,
  E_NO_INTERFACE: 400,
  E_NOT_FOUND: 404,
  E_CONFLICT: 409,
  E_NOT_RUNNING: 503,
};

/** Of a request that names many services. */
const MOST_BYTES = 256 * 1024 * 1024;
/** Of a name in a path. */
const LONGEST_NAME = 253;
const JSON_TYPE = 'application/json; charset=utf-8';

const endpointBody = z.strictObject({
  name: objectName('web-1'),
  interface: interfaceName('lxc-web-1'),
  addresses: z.array(unicast()).min(1, { error: 'expected at least one IP address' }),
});

/** Each of them is judged by itself. */
const servicesBody = z.strictObject({ services: z.array(z.unknown()) });

const resizeBody = z.strictObject({
  table: oneOf(SIZED_TABLES),
  family: oneOf(['ipv4', 'ipv6']).optional(),
  entries: integer(LEAST_SIZE, MOST_SIZE, 262_144),
});

/**
 * The API of the socket, version 1. Every answer is JSON; errors are
 * `{code, message, hint?}` with a status of 4xx for what the caller did and 5xx else.
 */
export function buildApi(control: AgentControl): FastifyInstance {
  const routerOptions = { maxParamLength: LONGEST_NAME };
  const app = fastify({ forceCloseConnections: true, routerOptions });
  app.setErrorHandler((error, _request, reply) => {
    const { status, body } = describeError(error);
    reply.status(status).send(body);
  });
  app.setNotFoundHandler((request, reply) => {
    const message = `there is no ${request.method} ${request.url}`;
    reply.status(404).send({ code: 'E_NOT_FOUND', message });
  });

  app.get('/v1/status', () => control.status());
  app.get('/v1/healthz', (_request, reply) => {
    const health = control.health();
    reply.status(health.healthy ? 200 : 503).send(health);
  });
  app.get('/v1/endpoints', () => ({ endpoints: control.listEndpoints() }));
  app.post('/v1/endpoints', async (request, reply) => {
    const { endpoint, created } = await control.addEndpoint(parse(endpointBody, request.body));
    reply.status(created ? 201 : 200);
    return endpoint;
  });
  app.delete<{ Params: { name: string } }>('/v1/endpoints/:name', (request) =>
    control.deleteEndpoint(request.params.name),
  );
  addServiceRoutes(app, control);
  app.post('/v1/gc/run', () => control.collect());
  app.post('/v1/maps/resize', async (request) => ({
    resizes: await control.resize(parse(resizeBody, request.body)),
  }));
  return app;
}

function addServiceRoutes(app: FastifyInstance, control: AgentControl): void {
  app.post('/v1/services', { bodyLimit: MOST_BYTES }, async (request) => {
    const { body } = request;
    if (typeof body === 'object' && body !== null && 'services' in body) {
      return { services: await control.applyServices(parse(servicesBody, body).services) };
    }
    parse(serviceSchema, body);
    const [result] = await control.applyServices([body]);
    if (result?.result !== 'rejected') return { services: [result] };
    throw new SekishoError('E_CONFLICT', `service ${result.name}: ${result.problems.join('; ')}`);
  });
  app.get('/v1/services', (_request, reply) => {
    const invalid = control.invalidServices();
    return reply.type(JSON_TYPE).send(jsonStream('services', control.listServices(), { invalid }));
  });
  app.get<{ Params: { name: string } }>('/v1/services/:name', (request) =>
    control.getService(request.params.name),
  );
  app.delete<{ Params: { name: string } }>('/v1/services/:name', (request) =>
    control.deleteService(request.params.name),
  );
  app.get('/v1/backends', (_request, reply) =>
    reply.type(JSON_TYPE).send(jsonStream('backends', backendsOf(control.listServices()))),
  );
}

async function* backendsOf(services: AsyncIterable<ServiceView[]>) {
  for await (const some of services) yield some.flatMap(({ backends }) => backends);
}

/** Serves the API on a socket that only its owner may use; an abandoned socket gives way. */
export async function serveApi(control: AgentControl, path: string): Promise<AsyncDisposable> {
  const app = buildApi(control);
  rmSync(path, { force: true });
  const mask = process.umask(0o177);
  try {
    await app.listen({ path });
  } finally {
    process.umask(mask);
  }
  chmodSync(path, 0o600);
  return {
    async [Symbol.asyncDispose]() {
      await app.close();
      rmSync(path, { force: true });
    },
  };
}

function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body ?? {});
  if (result.success) return result.data;
  const [problem] = problemsOf(result.error.issues, body ?? {}, () => undefined);
  const where = formatPath(problem?.path ?? []);
  const message = `${where ? `${where}: ` : ''}${problem?.message}`;
  throw where.startsWith('addresses[')
    ? new SekishoError('E_BAD_ADDRESS', message, { hint: 'for example 10.0.1.10 or fd00:1::10' })
    : new SekishoError('E_USAGE', message);
}

function describeError(error: unknown): {
  status: number;
  body: { code: ErrorCode; message: string; hint?: string };
} {
  if (error instanceof SekishoError) {
    const { code, message, hint } = error;
    return { status: HTTP_STATUS[code] ?? 500, body: { code, message, ...(hint && { hint }) } };
  }
  const { statusCode = 500, message } = error as { statusCode?: number; message: string };
  const code = statusCode < 500 ? 'E_USAGE' : 'E_INTERNAL';
  const hint = statusCode === 415 && 'send JSON, as Content-Type: application/json';
  return { status: statusCode, body: { code, message, ...(hint && { hint }) } };
}
