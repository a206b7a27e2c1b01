/** Loads of TCP, between the two ends of a variant. */
import { CPU, type Printed, runTool, type Spent, serveTool } from './tools.ts';
import type { Variant } from './variant.ts';

/** What one run of a load yields. */
export interface Sample {
  /** Per second of time. */
  value: number;
  /** Per second of CPU time of the load's programs: steadier where others want the CPU too. */
  perCpuSecond: number;
  details: Record<string, number>;
}

/** Bits from the client to the server. */
export async function bulk(variant: Variant, milliseconds: number): Promise<Sample> {
  const { client, server } = await exchange(variant, 'discard', CPU.measured, 'tcp-bulk', [
    milliseconds,
  ]);
  if (server.received !== client.bytes) {
    throw new Error(`${variant.name}: ${server.received} of ${client.bytes} bytes arrived`);
  }
  return sample(client.bytes * 8, client, server.cpuNs, { ...client });
}

/** Bits from the server to the client. */
export async function download(variant: Variant, milliseconds: number): Promise<Sample> {
  const { client, server } = await exchange(variant, 'chargen', CPU.measured, 'tcp-fetch', [
    milliseconds,
  ]);
  return sample(client.bytes * 8, client, server.cpuNs, { ...client });
}

/** Transactions on one connection. */
export async function requestResponse(variant: Variant, milliseconds: number): Promise<Sample> {
  const run = await exchange(variant, 'echo', CPU.measured, 'tcp-rr', [milliseconds]);
  return sample(run.client.exchanges, run.client, run.server.cpuNs, { ...run.client });
}

/** Connections of one transaction each, so many at a time. */
export async function connections(
  variant: Variant,
  milliseconds: number,
  concurrent: number,
  serverCpu: number,
): Promise<Sample> {
  const args = [concurrent, milliseconds];
  const { client, server } = await exchange(variant, 'echo', serverCpu, 'tcp-crr', args);
  if (client.failed > 0) {
    throw new Error(`${variant.name}: ${client.failed} of ${client.connections} were refused`);
  }
  return sample(client.connections, client, server.cpuNs, { ...client });
}

/** What was done, by the time and by the CPU time of client and server. */
export function sample(
  count: number,
  { elapsedNs, cpuNs }: Spent,
  serverCpuNs: number,
  details: Record<string, number>,
): Sample {
  return {
    value: (count * 1e9) / elapsedNs,
    perCpuSecond: (count * 1e9) / (cpuNs + serverCpuNs),
    details: { ...details, serverCpuNs },
  };
}

/** A client against a server, and the proof of the way between them. */
async function exchange<T extends 'tcp-bulk' | 'tcp-fetch' | 'tcp-rr' | 'tcp-crr'>(
  variant: Variant,
  mode: 'echo' | 'discard' | 'chargen',
  serverCpu: number,
  tool: T,
  args: number[],
): Promise<{ client: Printed[T]; server: Printed['tcp-server'] }> {
  const { client: ns, server: serverNs, host, port, serverPort } = variant.ends;
  const before = await variant.look();
  await using serving = await serveTool(serverNs, serverCpu, 'tcp-server', mode, serverPort);
  const client = await runTool(ns, CPU.measured, tool, host, port, ...args);
  const server = await serving.end();
  const carried = 'bytes' in client ? client.bytes : server.received;
  variant.assertPath(before, await variant.look(), server, carried / 65_536);
  return { client, server };
}
