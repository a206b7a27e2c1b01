import { FAMILIES } from '../lib/ip.ts';
import { DEVICE_HOOKS, ENDPOINT_HOOKS, type Hook, type Programs } from './attach.ts';
import { readSlot, type Slot } from './attachment.ts';
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

/** Slots of a plan that was applied with these programs and where they are attached no more. */
export function lostSlots(bpffs: string, plan: Plan, programs: Programs): Slot[] {
  return plannedSlots(plan).filter((slot) => {
    const found = readSlot(bpffs, slot);
    return !found?.attached || found.programId !== programs[slot.family][slot.hook].id;
  });
}

function slotsOf({ ifindex }: Interface, hooks: readonly Hook[]): Slot[] {
  return hooks.flatMap((hook) => FAMILIES.map((family) => ({ ifindex, hook, family })));
}
