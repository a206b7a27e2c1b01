import {
  backend_state,
  drop_reason,
  event_type,
  flow_class,
  hook,
  nat_class,
  restored,
  table,
  update_error,
  verdict,
} from '../abi/generated.ts';

/** `HOOK_FROM_NETDEV` → `from_netdev`; the closing `…COUNT` is no name. */
type Label<Enum, Prefix extends string> = {
  [Key in keyof Enum]: Key extends `${string}COUNT`
    ? never
    : Key extends `${Prefix}${infer Name}`
      ? Lowercase<Name>
      : never;
}[keyof Enum];

export type Hook = Label<typeof hook, 'HOOK_'>;
export type Verdict = Label<typeof verdict, 'VERDICT_'>;
export type DropReason = Label<typeof drop_reason, 'DROP_'>;
export type ConnectionTable = Label<typeof table, 'TABLE_'>;
export type RestoredHalf = Label<typeof restored, 'RESTORED_'>;
export type UpdateError = Label<typeof update_error, 'UPDATE_'>;
export type EventType = Label<typeof event_type, 'EVENT_'>;
export type NatClass = Label<typeof nat_class, 'NAT_CLASS_'>;
export type BackendState = Label<typeof backend_state, 'BACKEND_'>;
export type FlowClass = Label<typeof flow_class, 'FLOW_'>;

/** Names by number: `HOOKS[2]` is `from_netdev`. */
export const HOOKS: readonly Hook[] = labels(hook, 'HOOK_');
export const VERDICTS: readonly Verdict[] = labels(verdict, 'VERDICT_');
export const DROP_REASONS: readonly DropReason[] = labels(drop_reason, 'DROP_');
export const CONNECTION_TABLES: readonly ConnectionTable[] = labels(table, 'TABLE_');
/** The map that leads to a connection table is pinned under the table's name and this. */
export const OUTER_SUFFIX = '_maps';
/** While a table is resized, the map that it had is pinned under the table's name and this... */
export const PREVIOUS_SUFFIX = '_previous';
/** ...and the successor of a pin under its name and this, until it takes the pin's place. */
export const STAGED_SUFFIX = '_new';
export const RESTORED_HALVES: readonly RestoredHalf[] = labels(restored, 'RESTORED_');
export const UPDATE_ERRORS: readonly UpdateError[] = labels(update_error, 'UPDATE_');
export const EVENT_TYPES: readonly EventType[] = labels(event_type, 'EVENT_');
export const NAT_CLASSES: readonly NatClass[] = labels(nat_class, 'NAT_CLASS_');
export const BACKEND_STATES: readonly BackendState[] = labels(backend_state, 'BACKEND_');
export const FLOW_CLASSES: readonly FlowClass[] = labels(flow_class, 'FLOW_');

/** Numbers of an enum without gaps, from 0. */
function labels<Enum extends Record<string, number>, Prefix extends string>(
  names: Enum,
  prefix: Prefix,
): Array<Label<Enum, Prefix>> {
  return Object.entries(names)
    .filter(([name]) => !name.endsWith('COUNT'))
    .sort(([, a], [, b]) => a - b)
    .map(([name]) => name.slice(prefix.length).toLowerCase() as Label<Enum, Prefix>);
}
