import { type BackendTable, countSlots, type Scope } from './backend-table.ts';
import type { ListedBackend } from './backend-view.ts';
import { frontendWord } from './service-lines.ts';
import type { ListedService } from './service-view.ts';
import { formatTable } from './text-table.ts';

/** A table, and who is led by it: everybody, or the network and pods each by their own. */
export interface NamedTable {
  scope: Scope | 'both';
  table: BackendTable;
}

/** An element of `maglev show -o json` (docs/json.md). */
export interface ListedTable {
  service: number | null;
  name: string | null;
  family: string | null;
  protocol: string | null;
  algorithm: string | null;
  scope: Scope | 'both';
  size: number;
  backends: TableBackend[];
  /** Backend ids by slot. */
  table: number[];
}

interface TableBackend {
  id: number;
  /** Null of one that the table has and the datapath has not. */
  address: string | null;
  port: number | null;
  protocol: string | null;
  state: string | null;
  weight: number | null;
  slots: number;
  /** Percent of the slots. */
  share: number;
}

/** A service's table with the backends that stand in it, and those that do not. */
export function describeTable(
  service: ListedService,
  backends: readonly ListedBackend[],
  { scope, table }: NamedTable,
): ListedTable {
  const { id, name, family, protocol, algorithm } = service;
  const slots = countSlots(table);
  const strangers = [...slots.keys()].filter((known) => !backends.some((b) => b.id === known));
  const rows = [
    ...backends.map((backend) => ({ ...placeOf(backend), id: backend.id })),
    ...strangers.map((stranger) => ({ ...NOWHERE, id: stranger })),
  ];
  return {
    service: id,
    ...{ name, family, protocol, algorithm, scope },
    size: table.length,
    backends: rows.map((row) => {
      const own = slots.get(row.id) ?? 0;
      return { ...row, slots: own, share: (100 * own) / table.length };
    }),
    table: [...table],
  };
}

const NOWHERE = { address: null, port: null, protocol: null, state: null, weight: null };

function placeOf({ address, port, protocol, state, weight }: ListedBackend) {
  return { address, port, protocol, state, weight };
}

const FOR_WHOM = { both: 'for everybody', external: 'for the network', internal: 'for pods' };

/** Of each table, who stands in it and how often; a blank line between two. */
export function tablesText(tables: readonly ListedTable[]): string[] {
  return tables.flatMap((table, i) => [...(i > 0 ? [''] : []), ...tableText(table)]);
}

function tableText({ service, name, family, protocol, ...shown }: ListedTable): string[] {
  const { algorithm, scope, size, backends } = shown;
  const title = `service ${service}${name === null ? '' : ` (${name})`}`;
  const rows = backends.map((backend) => [
    backend.id,
    wordOf(backend),
    backend.state ?? '-',
    backend.weight ?? '-',
    backend.slots,
    `${backend.share.toFixed(2)}%`,
  ]);
  return [
    `${title}, ${family} ${protocol}, ${algorithm}, ${size} slots ${FOR_WHOM[scope]}`,
    ...formatTable(['ID', 'BACKEND', 'STATE', 'WEIGHT', 'SLOTS', 'SHARE'], rows),
  ];
}

function wordOf({ address, port, protocol }: TableBackend): string {
  if (address === null || port === null || protocol === null) return '-';
  return frontendWord({ address, port, protocol });
}
