import { scheduleLine } from './gc.ts';
import { mapLines } from './map.ts';
import { summaryWords } from './service-summary.ts';
import type { StatusReport } from './status-report.ts';
import { formatTable } from './text-table.ts';

/** The report for people; `now` in milliseconds since the epoch. */
export function statusLines(report: StatusReport, now: number): string[] {
  return [
    ...formatTable(['AGENT', ''], agentRows(report)).slice(1),
    ...section('HOOKS', hookLines(report)),
    ...section('GARBAGE COLLECTION', report.gc ? [scheduleLine(report.gc, now)] : []),
    ...section('SERVICES', report.services ? [summaryWords(report.services)] : []),
    ...section('KERNEL', [kernelLine(report)]),
    ...section('MAPS', mapLines(report.maps)),
    ...section('DROPS', dropLines(report)),
    ...section('WARNINGS', report.warnings),
    ...section('PROBLEMS', report.problems),
    '',
    report.healthy ? 'healthy' : 'unhealthy',
  ];
}

function agentRows({ agent }: StatusReport): string[][] {
  if (agent === null) return [['Agent', 'not running']];
  const { version, pid, node, startedAt, reload, devices, endpoints } = agent;
  return [
    ['Agent', `running, pid ${pid}, version ${version}, since ${startedAt}`],
    ...(reload ? [['Reload', `${reload.status} ${reload.at}`]] : []),
    ['Node', node],
    ['Devices', devices.join(' ') || 'none'],
    ['Endpoints', `${endpoints.ready} of ${endpoints.total} ready`],
  ];
}

const HOOK_COLUMNS = ['INTERFACE', 'PROGRAM', 'FAMILY', 'ATTACH', 'STATE'];

function hookLines({ hooks }: StatusReport): string[] {
  const rows = hooks.map(({ interface: name, ifindex, hook, family, attached, attach }) => [
    name ?? `#${ifindex}`,
    hook,
    family,
    attach ?? '-',
    attached ? 'attached' : 'MISSING',
  ]);
  return rows.length > 0 ? formatTable(HOOK_COLUMNS, rows) : [];
}

function dropLines({ drops }: StatusReport): string[] {
  const rows = drops.map(({ packets, reason, hook, family }) => [packets, reason, hook, family]);
  return rows.length > 0 ? formatTable(['PACKETS', 'REASON', 'PROGRAM', 'FAMILY'], rows) : [];
}

function kernelLine({ capabilities }: StatusReport): string {
  const features = Object.entries(capabilities ?? {}).filter(([, has]) => typeof has === 'boolean');
  if (features.length === 0) return 'not probed';
  return features.map(([name, has]) => `${has ? '+' : '-'}${name}`).join(' ');
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((line) => `  ${line}`)];
}
