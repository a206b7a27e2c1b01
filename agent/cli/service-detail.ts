import type { ServiceView } from '../services/view.ts';
import type { DropReason } from '../tables/names.ts';
import type { Scope } from './backend-table.ts';
import type { ListedBackend } from './backend-view.ts';
import { affinityWord, frontendWord } from './service-lines.ts';
import type { ListedFrontend, ListedService } from './service-view.ts';
import { formatTable } from './text-table.ts';

export type Drops = Partial<Record<DropReason, number>>;

/** Percent of new connections that a backend gets, by who asks. */
export type Share = Record<Scope, number>;

export interface SharingBackend extends ListedBackend {
  share: Share;
}

/** One of the services that the datapath has for a service: of one family and protocol. */
export interface ServicePart {
  service: ListedService;
  backends: SharingBackend[];
  sourceRanges: string[];
  connections: number;
  drops: Drops;
}

/** The document of `service get -o json` (docs/json.md). */
export interface ServiceDetail
  extends Pick<
    ListedService,
    'name' | 'type' | 'source' | 'state' | 'problems' | 'algorithm' | 'forwarding'
  > {
  ids: number[];
  nodePort: number | null;
  externalTrafficPolicy: string | null;
  internalTrafficPolicy: string | null;
  affinityTimeout: number | null;
  sourceRanges: string[];
  connections: number;
  drops: Drops;
  frontends: (ListedFrontend & { serviceId: number | null })[];
  backends: SharingBackend[];
}

/** Puts the parts of a service together. There is at least one: of an absent service, itself. */
export function detailOf(
  parts: readonly [ServicePart, ...ServicePart[]],
  known: ServiceView | undefined,
): ServiceDetail {
  const [{ service }] = parts;
  const { name, type, source, problems, algorithm, forwarding } = service;
  return {
    name,
    type,
    source,
    state: parts.find((part) => part.service.state !== 'ready')?.service.state ?? 'ready',
    problems,
    ids: parts.flatMap((part) => part.service.id ?? []),
    algorithm,
    forwarding,
    nodePort: known?.nodePort ?? null,
    externalTrafficPolicy: known?.externalTrafficPolicy ?? null,
    internalTrafficPolicy: known?.internalTrafficPolicy ?? null,
    affinityTimeout: service.affinityTimeout,
    sourceRanges: [...new Set(parts.flatMap((part) => part.sourceRanges))],
    connections: parts.reduce((sum, part) => sum + part.connections, 0),
    drops: sumDrops(parts.map((part) => part.drops)),
    frontends: parts.flatMap((part) =>
      part.service.frontends.map((frontend) => ({ ...frontend, serviceId: part.service.id })),
    ),
    backends: parts.flatMap((part) => part.backends),
  };
}

/** The same for people. */
export function detailLines(detail: ServiceDetail): string[] {
  return [
    ...formatTable(['Service', detail.name ?? '-'], facts(detail)),
    '',
    ...formatTable(
      ['SERVICE', 'REVNAT', 'FRONTEND', 'FOR'],
      detail.frontends.map((frontend) => [
        frontend.serviceId ?? '-',
        frontend.revNat ?? '-',
        frontendWord(frontend),
        frontend.external ? 'everybody' : 'pods',
      ]),
    ),
    '',
    ...backendLines(detail.backends),
  ];
}

function facts(detail: ServiceDetail): string[][] {
  const { externalTrafficPolicy: external, internalTrafficPolicy: internal, drops } = detail;
  const origin = { config: ', from the configuration', api: ', from the socket' };
  const reasons = Object.entries(drops).map(([reason, count]) => `${reason} ${count}`);
  return [
    ['Type', `${detail.type ?? '-'}${detail.source ? origin[detail.source] : ''}`],
    ['State', detail.state],
    ...detail.problems.map((problem) => ['', problem]),
    ...(detail.nodePort === null ? [] : [['Node port', String(detail.nodePort)]]),
    ['Algorithm', detail.algorithm ?? '-'],
    ['Forwarding', detail.forwarding ?? '-'],
    ...(external === null ? [] : [['Policies', `external ${external}, internal ${internal}`]]),
    ['Affinity', affinityWord(detail.affinityTimeout)],
    ['Let in', detail.sourceRanges.join(' ') || 'everybody'],
    ['Connections', String(detail.connections)],
    ['Drops', reasons.join(', ') || 'none'],
  ];
}

function backendLines(backends: readonly SharingBackend[]): string[] {
  const isSplit = backends.some(({ share }) => share.external !== share.internal);
  const shares = isSplit ? ['SHARE', 'SHARE OF PODS'] : ['SHARE'];
  const heading = ['ID', 'BACKEND', 'STATE', 'WEIGHT', ...shares, 'CONNECTIONS'];
  const rows = backends.map((backend) => [
    backend.id,
    frontendWord(backend),
    backend.state,
    backend.weight ?? '-',
    percent(backend.share.external),
    ...(isSplit ? [percent(backend.share.internal)] : []),
    backend.connections,
  ]);
  return formatTable(heading, rows);
}

function percent(share: number): string {
  return `${share.toFixed(1)}%`;
}

function sumDrops(all: readonly Drops[]): Drops {
  const sum: Drops = {};
  for (const drops of all) {
    for (const [reason, count] of Object.entries(drops) as [DropReason, number][]) {
      sum[reason] = (sum[reason] ?? 0) + count;
    }
  }
  return sum;
}
