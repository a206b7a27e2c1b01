/**
 * Puts the bare redirect on a pod's link and the uplink, in the network namespace that it runs in:
 * `redirect.ts POD_INTERFACE UPLINK DIRECTORY`. The directory is on a bpffs and keeps the links.
 */
import { join } from 'node:path';
import { attachTcx } from '../../../agent/kernel/link.ts';
import { openObject } from '../../../agent/kernel/object.ts';
import { interfaceIndex } from '../../lib/interface-index.ts';

const OBJECT = join(import.meta.dirname, '..', '..', '..', 'build', 'bpf', 'bench-redirect.bpf.o');

const [pod = '', uplink = '', directory = ''] = process.argv.slice(2);
const ends = { pod: interfaceIndex(pod), uplink: interfaceIndex(uplink) };
using object = openObject(OBJECT);
object.setRodata(new Uint8Array(Uint32Array.of(ends.uplink, ends.pod).buffer));
object.load();
for (const [name, ifindex] of [
  ['from_pod', ends.pod],
  ['from_world', ends.uplink],
] as const) {
  using program = object.program(name);
  using link = attachTcx(program, ifindex, 'ingress');
  link.pin(join(directory, name));
}
