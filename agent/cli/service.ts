import type { Command } from 'commander';
import { askServices } from './ask-services.ts';
import { agentClient } from './client.ts';
import type { OutputOptions } from './context.ts';
import { addOutputOption, configOf, requirePins } from './context.ts';
import { createOutput, writeJson, writeJsonArray, writeLines } from './output.ts';
import { applyServices } from './service-apply.ts';
import { chooseService, noService } from './service-choice.ts';
import { detailLines, detailOf, type ServicePart } from './service-detail.ts';
import { SERVICE_HEADING, serviceRows } from './service-lines.ts';
import { listServices } from './service-listing.ts';
import { readParts } from './service-parts.ts';
import { describeAbsent, type ListedService } from './service-view.ts';
import { tableLines } from './text-table.ts';

export function register(program: Command): void {
  const service = program.command('service').description('services and where they lead');
  addOutputOption(service.command('list')).description('print the services').action(list);
  addOutputOption(service.command('get <name>'))
    .description('print one, by name or number: frontends, backends, what was counted')
    .action(get);
  addOutputOption(service.command('apply'))
    .description('create or change the services of a file, in YAML or JSON')
    .requiredOption('-f, --filename <file>', 'one service, a list, or services: […]; - for stdin')
    .action(applyServices);
  service.command('delete <name>').description('delete a service that was applied').action(remove);
}

async function list(options: OutputOptions, command: Command): Promise<void> {
  const config = configOf(command);
  const { bpffs } = config.state;
  requirePins(bpffs);
  const services = await listServices(bpffs, await askServices(config));
  const out = createOutput();
  if (options.output === 'json') await writeJsonArray(out, services());
  else
    await writeLines(
      out,
      tableLines(SERVICE_HEADING, () => rowsOf(services())),
    );
}

function* rowsOf(services: Iterable<ListedService>) {
  for (const service of services) yield* serviceRows(service);
}

async function get(word: string, options: OutputOptions, command: Command): Promise<void> {
  const config = configOf(command);
  const { bpffs } = config.state;
  requirePins(bpffs);
  const services = await askServices(config);
  const { ids, known } = chooseService(word, services);
  const [part = known && absentPart(describeAbsent(known)), ...others] = await readParts(
    bpffs,
    ids,
    services,
  );
  if (!part) throw noService(word);
  const detail = detailOf([part, ...others], known);
  const out = createOutput();
  if (options.output === 'json') await writeJson(out, detail);
  else await writeLines(out, detailLines(detail));
}

function absentPart(service: ListedService): ServicePart {
  return { service, backends: [], sourceRanges: [], connections: 0, drops: {} };
}

async function remove(name: string, _options: unknown, command: Command): Promise<void> {
  const { runDir } = configOf(command).state;
  await agentClient(runDir).delete(`/v1/services/${encodeURIComponent(name)}`);
  await writeLines(createOutput(), [`service ${name} deleted`]);
}
