import { FAMILIES } from '../lib/ip.ts';
import {
  type AttachOptions,
  DEVICE_HOOKS,
  ENDPOINT_HOOKS,
  HOOK_DIRECTIONS,
  type Hook,
  pinNames,
} from './attach.ts';
import { programsAt, type Slot, slotName } from './attachment.ts';
import type { Interface } from './network.ts';
import type { Plan } from './plan.ts';

/** Every slot that a plan fills, in the order of attaching. */
export function plannedSlots(plan: Plan): Slot[] {
  return [
    ...plan.devices.flatMap((link) => slotsOf(link, DEVICE_HOOKS)),
    ...endpointLinks(plan).flatMap((link) => slotsOf(link, ENDPOINT_HOOKS)),
  ];
}

/** Interfaces with endpoints behind them, each once. */
export function endpointLinks({ endpoints }: Plan): Interface[] {
  return [...new Map(endpoints.map(({ link }) => [link.ifindex, link])).values()];
}

/**
 * Slots of a plan that was applied with these programs and where they are attached, or pinned, no
 * more. One look at each side of an interface, whatever stands there.
 */
export function lostSlots({ bpffs, programs, attach }: AttachOptions, plan: Plan): Slot[] {
  const pins = new Set(pinNames(bpffs));
  const seen = new Map<string, ReadonlySet<number>>();
  const programsOn = ({ ifindex, hook }: Slot): ReadonlySet<number> => {
    const side = `${ifindex} ${HOOK_DIRECTIONS[hook]}`;
    const found = seen.get(side) ?? new Set(programsAt(attach, ifindex, hook));
    seen.set(side, found);
    return found;
  };
  return plannedSlots(plan).filter((slot) => {
    const { id } = programs[slot.family][slot.hook];
    return !pins.has(slotName(slot)) || !programsOn(slot).has(id);
  });
}

function slotsOf({ ifindex }: Interface, hooks: readonly Hook[]): Slot[] {
  return hooks.flatMap((hook) => FAMILIES.map((family) => ({ ifindex, hook, family })));
}
