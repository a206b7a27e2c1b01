import { layouts } from '../abi/generated.ts';
import type { Family } from '../lib/ip.ts';
import { openFamilyMap } from '../tables/open.ts';
import {
  noServiceCounts,
  readServiceCounts,
  type ServiceCounts,
} from '../tables/service-counts.ts';

const COUNT = { size: 8, fields: {} };

/** What was counted for a family's services. Throws E_NO_MAPS, E_LAYOUT. */
export async function pinnedCounts(bpffs: string, family: Family): Promise<ServiceCounts> {
  const layout = { key: layouts[family].service_count_key, value: COUNT };
  using map = openFamilyMap(bpffs, family, 'service_counts', layout);
  const counts = noServiceCounts();
  await readServiceCounts(map, family, counts);
  return counts;
}
