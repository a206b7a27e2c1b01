import type { DropReason } from '../tables/names.ts';
import type {
  BackendState,
  Protocol,
  ServiceSource,
  ServiceSpec,
  ServiceType,
  TrafficPolicy,
} from './spec.ts';

/** One address and port that a service answers on: `nodePort` ones are this node's addresses. */
export interface FrontendView {
  address: string;
  port: number;
  protocol: Protocol;
  kind: 'service' | 'nodePort';
  /** `RevNAT` in listings; 0 while the service is not applied. */
  revNatIndex: number;
  /** Of the part of the service that has this protocol (and family). */
  serviceId: number;
  /** Who it serves: pods and the network alike, or each with backends of their own. */
  scope: 'both' | 'split';
  /** Whether the network may use it. */
  external: boolean;
}

/** A backend, once for each protocol of the service's frontends. */
export interface BackendView {
  /** `BackendID` in listings; 0 while the service is not applied. */
  id: number;
  /** Name of the service it belongs to. */
  service: string;
  serviceId: number;
  address: string;
  port: number;
  protocol: Protocol;
  weight: number;
  state: BackendState;
  /** Whether it is an endpoint of this node. */
  local: boolean;
  /** New connections since it is there. */
  connections: number;
}

/** A service as `GET /v1/services` shows it. */
export interface ServiceView {
  name: string;
  type: ServiceType;
  source: ServiceSource;
  /** What clients of `maglev show` and listings know it as; 0 while it is not applied. */
  id: number;
  /** All ids: one for each family and protocol of its frontends. */
  ids: number[];
  /** `rejected`: not in the datapath, for the reasons in `problems`. */
  state: 'applied' | 'rejected' | 'pending';
  /** One sentence each. */
  problems: string[];
  frontends: FrontendView[];
  nodePort: number | null;
  backends: BackendView[];
  algorithm: ServiceSpec['algorithm'];
  externalTrafficPolicy: TrafficPolicy;
  internalTrafficPolicy: TrafficPolicy;
  /** Seconds; null without affinity. */
  sessionAffinity: number | null;
  forwarding: ServiceSpec['forwarding'];
  sourceRanges: string[];
  /** New connections since it is there. */
  connections: number;
  /** Dropped packets by reason; those without any are left out. */
  drops: Partial<Record<DropReason, number>>;
}

/** What became of one service of `POST /v1/services`. */
export interface ApplyResult {
  name: string;
  result: 'created' | 'updated' | 'unchanged' | 'rejected';
  /** 0 when it was rejected and none of that name is there. */
  id: number;
  /** Why it was rejected: what was there before stays. */
  problems: string[];
}
