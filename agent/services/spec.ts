/** What a client connects to. */
export interface FrontendSpec {
  address: string;
  port: number;
  protocol: Protocol;
}

export type Protocol = 'TCP' | 'UDP' | 'SCTP';
export type BackendState = 'active' | 'terminating' | 'quarantined' | 'maintenance';
export type TrafficPolicy = 'Cluster' | 'Local';
export type ServiceType = 'ClusterIP' | 'NodePort' | 'LoadBalancer';

/** Who answers. */
export interface BackendSpec {
  address: string;
  port: number;
  /** Share of new connections; 0: none. */
  weight: number;
  state: BackendState;
}

/** A service as it is asked for: one entry of `services` in the configuration. */
export interface ServiceSpec {
  name: string;
  type: ServiceType;
  frontends: readonly FrontendSpec[];
  nodePort?: number | undefined;
  backends: readonly BackendSpec[];
  algorithm: 'maglev' | 'random';
  externalTrafficPolicy: TrafficPolicy;
  internalTrafficPolicy: TrafficPolicy;
  /** Seconds. */
  sessionAffinity?: { timeout: number } | undefined;
  forwarding: 'snat' | 'dsr';
  sourceRanges: readonly string[];
}

/** Where a service came from; only `api` ones are changed and deleted over the socket. */
export type ServiceSource = 'config' | 'api';
