/** Resizes IPv4's `ct_tcp`, as an agent does that has it open: one to be killed on the way. */
import { resizeTable } from '../../../agent/engine/resize.ts';
import { pinnedMaps } from '../pinned-maps.ts';

const [bpffs = '', entries = ''] = process.argv.slice(2);
using maps = pinnedMaps(bpffs);
await resizeTable({ bpffs, maps }, 'ipv4', 'ct_tcp', Number(entries));
