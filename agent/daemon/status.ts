import type { Attachment } from '../engine/attach.ts';
import type { CollectorStatus } from '../engine/collector.ts';
import type { Capabilities } from '../kernel/capabilities.ts';
import type { Family } from '../lib/ip.ts';

/** One map, as `GET /v1/status` shows it. */
export interface MapStatus {
  family: Family;
  /** Of its pin. */
  name: string;
  type: string;
  capacity: number;
  /** As the last pass counted them; connection tables only. */
  entries?: number;
  /** Bytes of kernel memory. */
  memory: number;
}

/** A link, with the name its interface has now. */
export interface HookStatus extends Attachment {
  interface: string;
}

/** What became of a configuration that was read again. */
export interface ReloadStatus {
  /** ISO 8601. */
  at: string;
  status: 'applied' | 'refused';
  /** Keys that changed, as dotted paths. */
  keys: string[];
  /** Why it was refused. */
  message?: string;
}

/** The answer to `GET /v1/status`. */
export interface Status {
  version: string;
  pid: number;
  node: string;
  /** ISO 8601. */
  startedAt: string;
  /** The last reload; null before the first one. */
  reload: ReloadStatus | null;
  healthy: boolean;
  /** Why it is not healthy, one sentence each. */
  problems: string[];
  /** What was asked for and cannot be done at present, one sentence each. */
  warnings: string[];
  devices: string[];
  endpoints: { ready: number; total: number };
  /** How many are asked for, and how many of those are not served. */
  services: { total: number; rejected: number };
  hooks: HookStatus[];
  maps: MapStatus[];
  gc: CollectorStatus;
  capabilities: Capabilities;
}
