import { z } from 'zod';
import { duration, integer, objectName, oneOf, port, prefix, unicast } from './values.ts';

const frontend = z.strictObject({
  address: unicast('172.190.0.17').describe('Address that clients connect to.'),
  port: port(80).describe('Port that clients connect to.'),
  protocol: oneOf(['TCP', 'UDP', 'SCTP']).prefault('TCP').describe('Transport protocol.'),
});

const backend = z.strictObject({
  address: unicast('10.0.1.10').describe('Address of the backend.'),
  port: port(8000).describe('Port of the backend.'),
  weight: integer(0, 65_535, 1).prefault(1).describe('Share of new connections.'),
  state: oneOf(['active', 'terminating', 'quarantined', 'maintenance'])
    .prefault('active')
    .describe('Whether it takes new connections.'),
});

const policy = () => oneOf(['Cluster', 'Local']).prefault('Cluster');

/** One entry of `services`. */
export const serviceSchema = z.strictObject({
  name: objectName('web').describe('Name of the service.'),
  type: oneOf(['ClusterIP', 'NodePort', 'LoadBalancer'])
    .prefault('ClusterIP')
    .describe('Who can reach it.'),
  frontends: z.array(frontend).prefault([]).describe('Addresses it answers on.'),
  nodePort: port(30_001).optional().describe('Port on the nodes; NodePort and LoadBalancer only.'),
  backends: z.array(backend).prefault([]).describe('Where its connections go.'),
  algorithm: oneOf(['maglev', 'random']).prefault('maglev').describe('How a backend is chosen.'),
  externalTrafficPolicy: policy().describe('Backends that outside clients reach.'),
  internalTrafficPolicy: policy().describe('Backends that local clients reach.'),
  sessionAffinity: z
    .strictObject({
      timeout: duration().prefault('3h').describe('How long a client is remembered.'),
    })
    .optional()
    .describe('Keep a client on one backend.'),
  forwarding: oneOf(['snat', 'dsr'])
    .prefault('snat')
    .describe('How a connection reaches a backend on another node.'),
  sourceRanges: z.array(prefix()).prefault([]).describe('Clients that are let in. Empty: all.'),
});
