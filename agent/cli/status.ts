import type { Command } from 'commander';
import { endpoint_flag } from '../abi/generated.ts';
import type { Status } from '../daemon/status.ts';
import { listAttachments } from '../engine/attach.ts';
import { readNetwork } from '../engine/ip-tool.ts';
import { probeCapabilities } from '../kernel/capabilities.ts';
import { type ErrorCode, SekishoError } from '../lib/errors.ts';
import { FAMILIES } from '../lib/ip.ts';
import { listDevices } from '../tables/devices.ts';
import { listEndpoints } from '../tables/endpoints.ts';
import { findServices } from './ask-services.ts';
import { askAgent } from './client.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, configOf, requirePins } from './context.ts';
import { readDrops } from './drops.ts';
import type { KnownServices } from './known-services.ts';
import { readMapStats } from './map-stats.ts';
import { createOutput, writeJson, writeLines } from './output.ts';
import { listServices } from './service-listing.ts';
import { type ServiceSummary, summarizeServices } from './service-summary.ts';
import { statusLines } from './status-lines.ts';
import type { Findings } from './status-report.ts';
import { reportStatus } from './status-report.ts';

const OTHER_PINS: readonly ErrorCode[] = ['E_NO_MAPS', 'E_LAYOUT'];

export function register(program: Command): void {
  addOutputOption(program.command('status'))
    .description('agent, hooks, maps and their fill; exits 1 when something is wrong')
    .action(status);
}

async function status(options: OutputOptions, command: Command): Promise<void> {
  const { bpffs, runDir } = configOf(command).state;
  const daemon = await askAgent<Status>(runDir, '/v1/status');
  if (!daemon) requirePins(bpffs);
  const report = reportStatus(await findings(bpffs, runDir, daemon));
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, report);
  else await writeLines(out, statusLines(report, Date.now()));
  if (!report.healthy) process.exitCode = 1;
}

async function findings(
  bpffs: string,
  runDir: string,
  daemon: Status | undefined,
): Promise<Findings> {
  const { interfaces } = await readNetwork();
  return {
    daemon,
    attachments: listAttachments(bpffs),
    devices: deviceIndexes(bpffs),
    endpoints: endpointIndexes(bpffs),
    names: new Map(interfaces.map(({ ifindex, name }) => [ifindex, name])),
    maps: await readMapStats(bpffs),
    drops: readDrops(bpffs),
    services: await servicesOf(bpffs, daemon && (await findServices(runDir))),
    capabilities: daemon ? undefined : probeCapabilities(),
  };
}

/** Null where the pins have no services, or those of another version. */
async function servicesOf(
  bpffs: string,
  known: KnownServices | undefined,
): Promise<ServiceSummary | null> {
  try {
    const services = await listServices(bpffs, known);
    return summarizeServices(services());
  } catch (error) {
    const isOther = error instanceof SekishoError && OTHER_PINS.includes(error.code);
    if (isOther) return null;
    throw error;
  }
}

function deviceIndexes(bpffs: string): number[] {
  return unique(FAMILIES.flatMap((family) => listDevices(bpffs, family).map((d) => d.ifindex)));
}

/** The node's own addresses have no interface behind them. */
function endpointIndexes(bpffs: string): number[] {
  const endpoints = FAMILIES.flatMap((family) => listEndpoints(bpffs, family));
  return unique(
    endpoints
      .filter(({ endpoint }) => (endpoint.flags & endpoint_flag.ENDPOINT_HOST) === 0)
      .map(({ endpoint }) => endpoint.ifindex),
  );
}

function unique(numbers: readonly number[]): number[] {
  return [...new Set(numbers)];
}
