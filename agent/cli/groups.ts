import type { Command } from 'commander';

/** A word after `sekisho`, and the module that knows what follows it. */
export interface Group {
  name: string;
  summary: string;
  load(): Promise<{ register(program: Command): void }>;
}

export const GROUPS: readonly Group[] = [
  { name: 'agent', summary: 'run the daemon', load: () => import('./agent.ts') },
  { name: 'status', summary: 'is everything in order?', load: () => import('./status.ts') },
  { name: 'ct', summary: 'connection tracking tables', load: () => import('./ct.ts') },
  { name: 'nat', summary: 'source NAT table and its ports', load: () => import('./nat.ts') },
  { name: 'service', summary: 'services and where they lead', load: () => import('./service.ts') },
  { name: 'backend', summary: 'backends of services', load: () => import('./backend.ts') },
  { name: 'maglev', summary: 'lookup tables of services', load: () => import('./maglev.ts') },
  { name: 'endpoint', summary: 'local endpoints', load: () => import('./endpoint.ts') },
  { name: 'gc', summary: 'garbage collection', load: () => import('./gc.ts') },
  { name: 'map', summary: 'maps and their fill', load: () => import('./map.ts') },
  { name: 'config', summary: 'check the configuration', load: () => import('./config.ts') },
  { name: 'doctor', summary: 'what this machine has and lacks', load: () => import('./doctor.ts') },
  { name: 'cleanup', summary: 'detach and unpin everything', load: () => import('./cleanup.ts') },
];
